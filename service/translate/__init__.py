"""Other languages for a graph: Python source and exported programs."""

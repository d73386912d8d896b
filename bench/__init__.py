"""What a trace costs, as ratios against a plain version of the same work in the same run."""

"""Processes that may die: a queue, a deadline, a kill, a respawn. Moves bytes, knows no torch."""

"""The public words: requests, answers and problems. Imports pydantic only."""

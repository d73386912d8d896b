"""The page at /: static files, served as they are."""

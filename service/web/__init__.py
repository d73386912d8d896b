"""HTTP without torch: limits, keys, ids, metrics and problems around the one call to a worker."""

"""Batches: requests in a file, answered in idle capacity, each line once."""

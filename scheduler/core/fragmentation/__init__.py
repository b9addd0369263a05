"""Fragmentation: what free capacity is good for, and how much of it a placement strands."""

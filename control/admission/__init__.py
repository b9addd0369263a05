"""What a caller may do, and whether the store is in order after a write: access, limits, references."""

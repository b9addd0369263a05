"""Which replica gets a request: filter, score, pick, in one visible table."""

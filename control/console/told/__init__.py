"""What is said of one resource: what it is, why, and what happened."""

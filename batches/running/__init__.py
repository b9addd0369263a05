"""What works on one batch: its lines, their outcomes and events, and its files."""

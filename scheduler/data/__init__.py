"""Data files of the scheduler."""

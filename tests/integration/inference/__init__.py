"""Engines and what learns of them, for real."""

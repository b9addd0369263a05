"""Serving models, billed by the token."""

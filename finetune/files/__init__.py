"""Uploaded files: kept by digest, indexed, checked as training data."""

"""Pods that run on a real API server; a package, so that its cluster ends with it."""

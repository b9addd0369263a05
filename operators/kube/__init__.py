"""Kubernetes, as the operator sees it and writes to it."""

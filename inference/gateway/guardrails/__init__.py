"""Guardrails at the gateway: which bind a request, and what they do to it and to its answer."""

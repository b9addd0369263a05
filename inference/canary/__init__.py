"""Canaries as control sees them: their engines, what gateways count of them, and when they are taken back."""

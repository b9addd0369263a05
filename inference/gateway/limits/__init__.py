"""Limits of what is asked of models per minute and at once: whose they are, and how they are counted."""

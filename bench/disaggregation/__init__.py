"""Prompts and answers on the same engines, apart, or as mode ``auto`` decides: what is served in time."""

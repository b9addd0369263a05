"""The store: its port, the rules of writing, and the adapters."""

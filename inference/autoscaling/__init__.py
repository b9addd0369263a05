"""Endpoints whose engines follow their load: what is seen, what follows from it, and how engines leave."""

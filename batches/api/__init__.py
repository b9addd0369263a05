"""``/v1/batches``: what a request may say, and the answers to it."""

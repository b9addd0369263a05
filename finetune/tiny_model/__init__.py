"""A tiny base model, made on the spot, to try the real path on a bare machine."""

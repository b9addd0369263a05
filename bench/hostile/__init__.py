"""One tenant against the platform and everybody else on it."""

"""The tide: how much of the pool inference needs, and what is left to training."""

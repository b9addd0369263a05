"""Pure: which requests a canary gets, and whether it is worse than what it is compared with."""

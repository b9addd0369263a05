"""How an Endpoint of mode ``auto`` is served: what comes, what would serve it, and when to change that."""

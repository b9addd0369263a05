"""Hard budgets at the gateway: requests hold what they may cost of leases, and the rest is given back."""

"""One of several processes on a database leads: the lease that says which, and the fence that holds others
off."""

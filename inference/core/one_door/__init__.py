"""Which of several models answers a request that names a Route."""

"""Several processes of one gateway on one port: start and end, shares of limits, metrics."""

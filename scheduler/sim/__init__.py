"""The scheduler on a virtual clock: the same decisions over traces of nodes and jobs, measured and
checked."""

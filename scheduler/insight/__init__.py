"""Questions about the scheduler, answered: overview, explanations and what-if."""

"""The life of a workload after its admission: phases, rollouts and device time."""

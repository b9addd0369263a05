"""The controller of jobs: from a queued job to its Workload, its Adapter and its bill."""

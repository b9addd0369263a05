"""Elastic node pools: sets of Ray nodes in Kubernetes follow what waits in control."""

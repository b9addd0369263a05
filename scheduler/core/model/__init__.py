"""Workloads, nodes and policies as frozen values, and what is known of device models and of past runs."""

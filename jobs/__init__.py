"""Tenants' own work: Jobs become Workloads, and what they leave is kept."""

"""Reasons: why a workload waits, in numbers and in words."""

"""Preemption: victims, their prices, and plans that make room for a workload that finds none."""

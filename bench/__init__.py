"""Benchmarks: small, bounded, and repeatable on one machine."""

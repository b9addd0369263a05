"""Spans of requests, sent to a collector: see docs/design/tracing.md."""

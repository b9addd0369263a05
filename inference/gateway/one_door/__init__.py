"""Requests that name a Route, or a model that others serve."""

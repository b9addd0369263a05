"""Mutation testing: the product is broken in small ways, and a unit test has to notice each."""

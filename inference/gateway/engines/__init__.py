"""Engines: which is asked, in which legs, and what becomes of its answer."""

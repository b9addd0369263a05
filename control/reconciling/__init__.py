"""Engines' counters, events and ledger, held against each other all the time."""

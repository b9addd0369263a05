"""Backfill: reservations, what is released when, and waiting a while for a better place."""

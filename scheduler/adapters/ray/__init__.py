"""Gangs of processes on a Ray cluster. Nothing outside this folder imports ray."""

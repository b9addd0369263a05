"""What a pass of the scheduler's loop costs, see ``python -m bench.loop --help``."""

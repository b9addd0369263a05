"""Work on devices that may not go on for now, for the scheduler."""

"""Pure decisions: everything is an argument, time included, and reasons are part of the answer."""

"""Control, as the operator asks it and follows it."""

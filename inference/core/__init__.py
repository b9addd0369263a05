"""Pure decisions of serving: no I/O, no clock."""

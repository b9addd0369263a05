"""What serving needs from outside: engines over HTTP."""

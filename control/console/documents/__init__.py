"""What people write, and changes of it."""

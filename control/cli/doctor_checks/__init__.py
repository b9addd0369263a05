"""What `computility doctor` looks at, one file for each sort of thing."""

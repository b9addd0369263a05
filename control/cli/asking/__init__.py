"""What every command needs to ask with: who, whom, and about what."""

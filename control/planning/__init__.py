"""What would serve a load, and what it would cost, before anything is applied."""

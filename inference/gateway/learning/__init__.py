"""What a gateway learns from the times that it measures."""

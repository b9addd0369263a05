"""What a gateway and control tell each other."""

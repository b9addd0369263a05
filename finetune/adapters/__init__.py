"""What fine-tuning needs from outside: storage."""

"""Pure rules of fine-tuning: no input or output, no clock, no randomness."""

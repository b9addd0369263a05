"""What gateways have learned of prompts that are read apart from their answers, as control knows it."""

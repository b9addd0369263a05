"""The worker: trains one LoRA job in a process of its own."""

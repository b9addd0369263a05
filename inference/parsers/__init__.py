"""Which parsers of vLLM suit a model: by its config, its chat template and its name."""

"""Which policy sends requests where their prompts are cached, at no cost of their waiting."""

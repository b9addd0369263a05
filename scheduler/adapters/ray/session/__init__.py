"""Sessions: a person's terminal and ports, held by the agent for a rank in its cell."""

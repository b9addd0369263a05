"""The data plane: an OpenAI-compatible front of the engines. No request waits for control."""

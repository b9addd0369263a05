"""The APIs that engines speak beside OpenAI's of a task: their bodies, their events, their errors."""

"""What a person may do with a process that runs: type into it, and reach its ports."""

from __future__ import annotations

from pydantic import Field, model_validator

from common.resources.meta import Model

DEFAULT_IDLE_SECONDS = 3600
MIN_IDLE_SECONDS, MAX_IDLE_SECONDS = 60, 604_800


class Session(Model):
    """Ways to a process of one's own. Each piece of input needs a key that may write the resource then."""

    terminal: bool = Field(False, description="its input and output are a terminal, for `computility shell`")
    ports: bool = Field(
        False,
        description="ports that it listens on within its cell can be reached by `computility port-forward`; "
        "not with a network, where they would be the node's",
    )
    idle_seconds: int = Field(
        DEFAULT_IDLE_SECONDS,
        ge=MIN_IDLE_SECONDS,
        le=MAX_IDLE_SECONDS,
        description="so long without input, and it ends",
    )

    @model_validator(mode="after")
    def _is_for_something(self) -> Session:
        if not (self.terminal or self.ports):
            raise ValueError("must have terminal or ports, or be left out")
        return self

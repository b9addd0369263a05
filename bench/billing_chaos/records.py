"""What a client wrote down of each request, and what the ledger says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["answered", "cut", "refused"]


@dataclass
class Received:
    """One request, by the id that the client gave it.

    ``answered``: all of the answer came, and the counts are those that it tells. ``cut``: it broke off or the
    client left, so at least ``completion`` tokens were received (``prompt`` is None where it was not told).
    ``refused``: the answer was an error. ``most`` is the largest number of completion tokens that was asked
    for, ``what`` how it ended, for people.
    """

    request_id: str
    kind: str
    most: int
    state: State = "cut"
    prompt: int | None = None
    cached: int = 0
    completion: int = 0
    what: str = ""

    def note_usage(self, usage: Any) -> None:
        """What an answer tells of itself."""
        details = usage.prompt_tokens_details
        self.prompt, self.completion = usage.prompt_tokens, usage.completion_tokens
        self.cached = (details.cached_tokens or 0) if details is not None else 0


@dataclass(frozen=True)
class Billed:
    """An event of inference in the ledger."""

    id: str
    request_id: str
    outcome: str
    prompt: int
    cached: int
    completion: int
    key: str = ""


@dataclass(frozen=True)
class Trained:
    """A fine-tuning job as the API shows it at the end; ``tokens`` is None where it has trained none."""

    job: str
    status: str
    tokens: int | None

"""Server-sent events of an engine: counted on the way, edited only where the client did not ask for usage.

Everything else passes byte for byte. The closing ``data: [DONE]`` is kept back, so that the caller can make
the usage durable before the client sees the end.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from inference.core.usage import (
    TokenCounts,
    UsageMember,
    find_member,
    find_usage,
    with_null_member,
    without_member,
)

DONE_EVENT = b"data: [DONE]\n\n"

UsageShown = Literal["none", "final", "all"]
"""What the client asked for: no usage, one last chunk with it (``null`` before), or running usage as well."""

_NOTHING = TokenCounts()
_END_OF_EVENT = b"\n\n"
_CHOICES = b'"choices"'
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_FIRST_INDEX = re.compile(rb'"choices"\s*:\s*\[\s*\{\s*"index"\s*:\s*(\d+)')
_ERROR = re.compile(rb'^data:\s*\{\s*"error"\s*:')


class EventSplitter:
    """Cuts a byte stream into whole events, however the network cut it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that ``data`` completes, each with its blank line."""
        *whole, self._rest = (self._rest + data).split(_END_OF_EVENT)
        return [event + _END_OF_EVENT for event in whole]


class StreamMeter:
    """Turns the engine's stream into the client's, and keeps count.

    ``choices_per_prompt`` and ``prompts`` are those of the request: running usage is per choice, so with
    several it has to be added up. ``rename`` is (the engine's model member, the client's) where they differ.
    ``error`` is the JSON of the engine's error event, if one came: it is kept back too, for the caller to
    tell the client in the product's own terms.
    """

    def __init__(
        self,
        shown: UsageShown,
        choices_per_prompt: int = 1,
        prompts: int = 1,
        rename: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.finished = False
        self.error: bytes | None = None
        self._shown = shown
        self._choices_per_prompt = choices_per_prompt
        self._single = choices_per_prompt * prompts == 1
        self._rename = rename
        self._splitter = EventSplitter()
        self._by_choice: dict[int, TokenCounts] = {}
        self._total: TokenCounts | None = None

    def feed(self, data: bytes) -> bytes:
        """What to send to the client for ``data``: all events that are whole now, less ``[DONE]``."""
        return b"".join([self._edited(event) for event in self._splitter.feed(data)])

    @property
    def counts(self) -> TokenCounts:
        """The engine's total where it came, else the sum of the running usage seen so far."""
        if self._total is not None:
            return self._total
        if self._single:
            return self._by_choice.get(0, _NOTHING)
        prompts: dict[int, int] = {}
        for index, counts in self._by_choice.items():
            prompts[index // self._choices_per_prompt] = counts.prompt
        completion = sum(counts.completion for counts in self._by_choice.values())
        return TokenCounts(prompt=sum(prompts.values()), completion=completion)

    def _edited(self, event: bytes) -> bytes:
        if event == DONE_EVENT:
            self.finished = True
            return b""
        if _ERROR.match(event):
            self.error = event.removeprefix(b"data:").strip()
            return b""
        usage = find_usage(event)
        if usage is not None:
            event = self._counted(event, usage)
        return event.replace(*self._rename, 1) if self._rename else event

    def _counted(self, event: bytes, usage: UsageMember) -> bytes:
        if find_member(event, _CHOICES, _NO_CHOICES):
            self._total = usage.counts
            return b"" if self._shown == "none" else event
        self._by_choice[self._choice_index(event)] = usage.counts
        return self._hidden(event, usage)

    def _hidden(self, event: bytes, usage: UsageMember) -> bytes:
        if self._shown == "all":
            return event
        return with_null_member(event, usage) if self._shown == "final" else without_member(event, usage)

    def _choice_index(self, event: bytes) -> int:
        if self._single:
            return 0
        match = find_member(event, _CHOICES, _FIRST_INDEX)
        if match is not None:
            return int(match[1])
        index = json.loads(event.removeprefix(b"data:"))["choices"][0].get("index", 0)
        return int(index)

"""Server-sent events of an engine: counted on the way, edited only where the client did not ask for usage.

Everything else passes byte for byte. The closing ``data: [DONE]`` is kept back, so that the caller can make
the usage durable before the client sees the end; so are the first events of an engine that has not told any
usage yet, since what is not counted is not served.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from common.errors import ComputilityError, EngineFailed, openai_body
from inference.core.delivered import BreakPoint, Delivered
from inference.core.seam import Seam
from inference.core.usage import (
    TokenCounts,
    UsageMember,
    find_member,
    find_usage,
    running_usage,
    with_cached,
    with_null_member,
    without_member,
)

DONE_EVENT = b"data: [DONE]\n\n"
EVENT_LIMIT_BYTES = 16 * 1024**2
"""The largest event, and the most that is kept back."""

UsageShown = Literal["none", "final", "all"]
"""What the client asked for: no usage, one last chunk with it (``null`` before), or running usage as well."""

_NOTHING = TokenCounts()
_END_OF_EVENT = b"\n\n"
_CHOICES = b'"choices"'
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_FIRST_INDEX = re.compile(rb'"choices"\s*:\s*\[\s*\{\s*"index"\s*:\s*(\d{1,9})(?!\d)')
_ERROR = re.compile(rb'^data:\s*\{\s*"error"\s*:')
_TOKEN_IDS, _PROMPT_IDS = b'"token_ids":[', b'"prompt_token_ids":['
_SAYS_NOTHING, _GOES_ON = b'"delta":{}', b'"finish_reason":null'
"""Of an event that only tells tokens: it is sent where these were asked for, and not otherwise."""


class EventSplitter:
    """Cuts a byte stream into whole events, however the network cut it, in time linear in its length."""

    def __init__(self, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The events that ``data`` completes, each with its blank line.

        Raises ``EngineFailed`` when one does not end within the limit.
        """
        if self._parts and data:
            across = data.startswith(b"\n") and self._parts[-1].endswith(b"\n")
            if not across and _END_OF_EVENT not in data:
                self._keep(data)
                return []
            data = b"".join([*self._parts, data])
            self._parts, self._size = [], 0
        *whole, rest = data.split(_END_OF_EVENT)
        if rest:
            self._keep(rest)
        return [event + _END_OF_EVENT for event in whole]

    def _keep(self, data: bytes) -> None:
        """Keep the part of an event that is not whole yet. Raises ``EngineFailed`` over the limit."""
        self._size += len(data)
        if self._size > self._limit_bytes:
            raise EngineFailed(f"the engine sent an event of more than {self._limit_bytes} bytes")
        self._parts.append(data)


def without_comments(data: bytes) -> tuple[bytes, bytes]:
    """(comments, rest): the whole comment lines at the beginning of a stream, and what comes after them.

    Engines keep a connection alive with them; they are no part of an answer.
    """
    at = 0
    while data[at : at + 1] in (b":", b"\n"):
        end = data.find(b"\n", at)
        if end < 0:
            break
        at = end + 1
    return data[:at], data[at:]


class StreamMeter:
    """Turns the engine's stream into the client's, and keeps count.

    ``choices_per_prompt`` and ``prompts`` are those of the request: running usage is per choice, so with
    several it has to be added up. ``rename`` is (the engine's model member, the client's) where they differ.
    ``error`` is the JSON of the engine's error event, if one came: it is kept back too, for the caller to
    tell the client in the product's own terms. ``told`` says whether the engine has told any usage.
    ``cached`` is how much of the prompt the engine that read it had already, where that was another one.
    ``record`` is given what the client is given, where the answer may have to be continued: then the engine
    tells the tokens, which the client did not ask for. ``passed`` counts the events that it was given;
    a comment is none.
    """

    def __init__(
        self,
        shown: UsageShown,
        choices_per_prompt: int = 1,
        prompts: int = 1,
        rename: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.finished = False
        self.told = False
        self.error: bytes | None = None
        self.cached: int | None = None
        self.record: Delivered | None = None
        self.first = b""
        """The first event that the client was given."""
        self._passed = 0
        self._prompt_ids = True
        self._seam: Seam | None = None
        self._shown = shown
        self._choices_per_prompt = choices_per_prompt
        self._single = choices_per_prompt * prompts == 1
        self._rename = rename
        self._splitter = EventSplitter()
        self._by_choice: dict[int, TokenCounts] = {}
        self._total: TokenCounts | None = None
        self._kept: list[bytes] = []
        self._kept_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """What to send to the client for ``data``: all events that are whole and counted, less ``[DONE]``.

        Raises ``EngineFailed`` for an event over the limit, or so much that is not counted.
        """
        made = self._all_edited(data)
        told = [event for event in made if not event.startswith(b":")]
        if told and not self._passed:
            self.first = told[0]
        self._passed += len(told)
        events = b"".join(made)
        if self.told:
            if self._kept:
                events = b"".join([*self._kept, events])
                self._kept = []
            return events
        if events:
            self._keep(events)
        return b""

    def _all_edited(self, data: bytes) -> list[bytes]:
        """What becomes of the events that ``data`` completes."""
        usual = self._single and self._shown == "none" and self.record is None and self._seam is None
        made: list[bytes] = []
        seen: tuple[int, int] | None = None
        for whole in self._splitter.feed(data):
            found = running_usage(whole) if usual else None
            if found is not None:
                event, prompt, completion = found
                seen = prompt, completion
                made.append(event.replace(*self._rename, 1) if self._rename else event)
                continue
            if seen is not None:
                self._saw(*seen)
                seen = None
            if event := self._edited(whole):
                made.append(event)
        if seen is not None:
            self._saw(*seen)
        return made

    def _saw(self, prompt: int, completion: int) -> None:
        """The engine told of the only choice what it had used by then."""
        self.told = True
        self._by_choice[0] = TokenCounts(prompt, 0, completion)

    @property
    def passed(self) -> int:
        """Events that the client was given."""
        return self._passed if self.told else 0

    def start_over(self) -> None:
        """Another engine answers anew: the client was given nothing."""
        self._follow()
        self.told, self._passed, self._prompt_ids = False, 0, True
        self._by_choice, self._kept, self._kept_bytes = {}, [], 0
        if self.record is not None:
            self.record.start_over()

    def go_on(self, seam: Seam, point: BreakPoint | None) -> None:
        """Another engine goes on where this one broke."""
        self._follow()
        self._seam = seam
        if self.record is not None and point is not None:
            self.record.go_on(point)

    def ending(self, error: ComputilityError | None) -> bytes:
        """What is kept back until the usage is durable, or what tells why there is no such end."""
        return (_trouble(error) if error is not None else b"") + DONE_EVENT

    def end(self, last: bytes) -> bytes:
        """The engine broke when only its ``last`` event was missing: what the client is to be sent of it."""
        self._follow()
        self.finished = True
        return self._edited(last)

    def _follow(self) -> None:
        self._splitter, self._seam = EventSplitter(), None
        self.error, self.finished = None, False

    @property
    def total_told(self) -> bool:
        """Whether the engine has told the total of the whole request, as it does at the end."""
        return self._total is not None

    @property
    def counts(self) -> TokenCounts:
        """The engine's total where it came, else the sum of the running usage seen so far."""
        seen = self._seen()
        return seen if self.cached is None else seen.with_cached(self.cached)

    def _seen(self) -> TokenCounts:
        if self._total is not None:
            return self._total
        if self._single:
            return self._by_choice.get(0, _NOTHING)
        prompts: dict[int, int] = {}
        for index, counts in self._by_choice.items():
            prompts[index // self._choices_per_prompt] = counts.prompt
        completion = sum(counts.completion for counts in self._by_choice.values())
        return TokenCounts(prompt=sum(prompts.values()), completion=completion)

    def _keep(self, events: bytes) -> None:
        self._kept_bytes += len(events)
        if self._kept_bytes > EVENT_LIMIT_BYTES:
            raise EngineFailed("the engine tells no token counts, so its answer is not given out")
        self._kept.append(events)

    def _edited(self, event: bytes) -> bytes:
        if event == DONE_EVENT:
            self.finished = True
            return b""
        if _ERROR.match(event):
            self.error = event.removeprefix(b"data:").strip()
            return b""
        if self._seam is not None:
            event = self._seam.join(event)
        if self.record is not None and event.startswith(b"data:"):
            self.record.add(event)
            event = self._without_ids(event)
        usage = find_usage(event)
        if usage is not None:
            self.told = True
            event = self._counted(event, usage)
        if self.record is not None and _SAYS_NOTHING in event and _GOES_ON in event:
            return b""
        return event.replace(*self._rename, 1) if self._rename else event

    def _without_ids(self, event: bytes) -> bytes:
        """The event as it would be if tokens had not been asked for. No string holds these bytes: in one, a
        backslash stands before each quote."""
        if self._prompt_ids and (at := event.find(_PROMPT_IDS)) >= 0:
            self._prompt_ids = False
            event = _with_null(event, at + len(_PROMPT_IDS) - 1)
        at = event.find(_TOKEN_IDS)
        return _with_null(event, at + len(_TOKEN_IDS) - 1) if at >= 0 else event

    def _counted(self, event: bytes, usage: UsageMember) -> bytes:
        if find_member(event, _CHOICES, _NO_CHOICES):
            self._total = usage.counts
            if self._shown == "none":
                return b""
            return event if self.cached is None else with_cached(event, usage, self.cached)
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
        try:
            index = json.loads(event.removeprefix(b"data:"))["choices"][0]["index"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return 0
        return index if isinstance(index, int) else 0


def _trouble(error: ComputilityError) -> bytes:
    return f"data: {json.dumps(openai_body(error))}\n\n".encode()


def _with_null(event: bytes, start: int) -> bytes:
    """``event`` with ``null`` in place of the list of numbers that begins at ``start``."""
    end = event.find(b"]", start)
    return b"".join((event[:start], b"null", event[end + 1 :]))

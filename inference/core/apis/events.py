"""Streams of events with names: counted on the way, and passed on as they come.

Such events tell the usage at the end only, so our engines add what was used by then to each of them, as a
comment in its last line (``inference/engine_usage.py``), which is cut off here. No data of an event holds a
line end, so nothing that a client or a model wrote is taken for one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import ComputilityError, openai_body
from common.vocabulary import harmless
from inference.core.apis.wires import Rename, anthropic_body, named_event, renamed_response
from inference.core.body import Api
from inference.core.sse import StreamMeter
from inference.core.usage import find_last_usage

RUNNING_USAGE = ": computility-usage"
"""Begins the comment with tokens of the prompt and of the answer."""
_RUNNING = re.compile(rb"\n%b (\d{1,12}) (\d{1,12})\n\n\Z" % RUNNING_USAGE.encode())
_COMMENT = b"\n" + RUNNING_USAGE.encode()
_NAME = re.compile(rb"event: ?([\w.]{1,64})\n")
_ERROR_WITHOUT_CODE = 500


def _first_renamed(event: bytes, rename: Rename) -> bytes:
    return event.replace(*rename, 1)


@dataclass(frozen=True)
class Events:
    """The events of one API. ``last`` ends a stream, ``closing`` is it where an engine broke when nothing but
    it was missing. ``totals`` tell the usage of all, ``named`` the model. ``trouble``: the last event of a
    stream that failed, behind so many."""

    last: bytes
    totals: bytes
    named: frozenset[bytes]
    trouble: Callable[[ComputilityError, int], bytes]
    closing: bytes = b""
    renamed: Callable[[bytes, Rename], bytes] = _first_renamed


def _messages_trouble(error: ComputilityError, _: int) -> bytes:
    return named_event("error", anthropic_body(error))


def _responses_trouble(error: ComputilityError, events: int) -> bytes:
    """As the API has it, with the object by which clients know an error in any stream."""
    told = openai_body(error)
    flat = {"type": "error", "code": error.code, "message": harmless(error.message), "param": error.param}
    return named_event("error", {**flat, "sequence_number": events, **told})


EVENTS: Mapping[Api, Events] = {
    "messages": Events(
        last=b"message_stop",
        totals=b"message_delta",
        named=frozenset({b"message_start"}),
        trouble=_messages_trouble,
        closing=named_event("message_stop", {"type": "message_stop"}),
    ),
    "responses": Events(
        last=b"response.completed",
        totals=b"response.completed",
        named=frozenset({b"response.created", b"response.in_progress", b"response.completed"}),
        trouble=_responses_trouble,
        renamed=renamed_response,
    ),
}


class EventMeter(StreamMeter):
    """As ``StreamMeter``, for one request to an API whose events have names. The last event is kept back."""

    def __init__(self, events: Events, rename: tuple[bytes, bytes] | None = None) -> None:
        super().__init__("none", rename=rename)
        self._events = events
        self._last = b""

    def ending(self, error: ComputilityError | None) -> bytes:
        if error is not None:
            return self._events.trouble(error, self.passed)
        return self._last or self._events.closing

    def _all_edited(self, data: bytes) -> list[bytes]:
        made = (self._edited(event) for event in self._splitter.feed(data))
        return [event for event in made if event]

    def _edited(self, event: bytes) -> bytes:
        event = self._counted_by_comment(event)
        name = _NAME.match(event)
        if name is None:
            return event if event.startswith(b":") else b""
        if name[1] == b"error":
            self.error = _error(event)
            return b""
        if name[1] == self._events.totals:
            self._count_total(event)
        if name[1] in self._events.named:
            if not self.told and (usage := find_last_usage(event)) is not None:
                self._saw(usage.counts.prompt, usage.counts.completion)
            if self._rename:
                event = self._events.renamed(event, self._rename)
        if name[1] == self._events.last:
            self._last, self.finished = event, True
            return b""
        return event

    def _counted_by_comment(self, event: bytes) -> bytes:
        """The event without what our engines add to it."""
        at = event.rfind(_COMMENT)
        told = _RUNNING.match(event, at) if at >= 0 else None
        if told is None:
            return event
        if prompt := int(told[1]):
            self._saw(prompt, int(told[2]))
        return event[:at] + b"\n\n"

    def _count_total(self, event: bytes) -> None:
        usage = find_last_usage(event)
        if usage is not None:
            self.told, self._total = True, usage.counts


def _error(event: bytes) -> bytes:
    """The engine's error as JSON with a code. One that it tells none for is its own, or so it seems: then the
    engine is asked whether it is well."""
    try:
        content: Any = json.loads(event.partition(b"data:")[2])
    except (ValueError, RecursionError):
        content = None
    found = content.get("error") if isinstance(content, dict) else None
    told = found if isinstance(found, dict) else {}
    code = told.get("code")
    is_code = isinstance(code, int) and not isinstance(code, bool)
    message = told.get("message")
    return json.dumps(
        {"error": {"code": code if is_code else _ERROR_WITHOUT_CODE, "message": str(message or "")}}
    ).encode()

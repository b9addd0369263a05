"""Streams under rules: each event as it comes, with so much of its text as may be passed on by then.

Events keep their number, order and all else that they tell. What was held back of a text goes out with the
event that ends it, or in one of its own before that.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any

from common.errors import EngineFailed
from inference.core.body import Api
from inference.core.sse import DONE_EVENT
from inference.core.usage import TokenCounts
from inference.guardrails.answers import encoded, guarded_output, without_spelling
from inference.guardrails.masking import GuardedText
from inference.guardrails.rules import Rules
from inference.guardrails.walking import Blocked, Hit, Walk

_END = b"\n\n"
_USUAL = re.compile(
    rb'(data: \{"id":"[^"\\]*","object":"[^"\\]*","created":\d+,"model":"[^"\\]*",'
    rb'"choices":\[\{"index":(\d{1,4}),"delta":\{"content":)"((?:[^"\\]|\\.)*)"'
    rb'(\},"logprobs":null,"finish_reason":null(?:,"token_ids":null)?\}\]\})'
)
"""A chunk of a chat with text and nothing else."""
_OF_CHUNKS = ("id", "object", "created", "model")
Event = dict[str, Any]


class GuardedStream(ABC):
    """One stream. ``blocked``: what ended it; from then on nothing is passed on."""

    def __init__(self, rules: Rules, told: Callable[[Hit], None]) -> None:
        self.blocked: Hit | None = None
        self._rules = rules
        self._told = told
        self._walk = Walk(rules, told)
        self._texts: dict[Hashable, tuple[GuardedText, str]] = {}

    def feed(self, events: bytes) -> bytes:
        """What the client is sent in place of these whole events."""
        passed: list[bytes] = []
        for event in events.split(_END):
            if self.blocked is not None:
                break
            if event:
                passed.append(self._fed(event))
        return b"".join(passed)

    def end(self, ending: bytes, counts: TokenCounts) -> bytes:
        """The last of a stream, in place of what its end would be. ``counts``: what is billed of it."""
        return self.feed(ending) if self.blocked is None else self._farewell(counts)

    def _stopped(self, event: Event) -> list[Event]:
        """The events that take the place of one in which something was forbidden."""
        return []

    @abstractmethod
    def _farewell(self, counts: TokenCounts) -> bytes:
        """How a stream ends that was blocked."""

    @abstractmethod
    def _events(self, event: Event) -> list[Event]:
        """The events that take the place of one. Raises ``Blocked``."""

    def _fed(self, event: bytes) -> bytes:
        usual = self._usual(event)
        passed = usual if usual is not None else self._read(event)
        return passed if self._rules.changes else event + _END

    def _usual(self, event: bytes) -> bytes | None:
        """What takes the place of an event that need not be read as a whole; None of any other."""
        return None

    def _read(self, event: bytes) -> bytes:
        if event.startswith(b":"):
            return event + _END
        name, _, data = event.rpartition(b"\n") if event.startswith(b"event:") else (b"", b"", event)
        data = data.removeprefix(b"data:")
        if data.strip() == b"[DONE]":
            return event + _END
        try:
            content = json.loads(data)
            made = self._events(content)
        except Blocked as error:
            self.blocked = error.hit
            made = self._stopped(content)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise EngineFailed("the engine sent what no guard can read, so it is not given out") from error
        return b"".join(_written(name, one) for one in made)

    def _text(self, key: Hashable, path: str, text: str, is_json: bool = False) -> str:
        """What can be passed on of a text that goes on with ``text``."""
        known = self._texts.get(key)
        if known is None:
            known = self._texts[key] = GuardedText(self._rules, is_json), path
        return self._passed(known, lambda: known[0].feed(text))

    def _rest(self, key: Hashable) -> str:
        """What is left of a text that has ended."""
        known = self._texts.pop(key, None)
        return self._passed(known, known[0].finish) if known is not None else ""

    def _passed(self, known: tuple[GuardedText, str], pass_on: Callable[[], str]) -> str:
        guarded, path = known
        before = guarded.hits.copy()
        passed = pass_on()
        for rule, count in (guarded.hits - before).items():
            self._told(Hit(rule, path, count))
        if guarded.blocked is not None:
            raise Blocked(Hit(guarded.blocked, path, guarded.hits[guarded.blocked]))
        return passed

    def _keys(self, *begin: Hashable) -> list[Any]:
        """Of texts that have not ended: those whose key begins so."""
        return [key for key in self._texts if isinstance(key, tuple) and key[: len(begin)] == begin]


class ChatStream(GuardedStream):
    """Chunks of chats and completions. One choice that is blocked ends all. ``tells_usage``: at the end."""

    def __init__(self, rules: Rules, told: Callable[[Hit], None], tells_usage: bool = False) -> None:
        super().__init__(rules, told)
        self._tells_usage = tells_usage
        self._open: set[int] = set()
        self._last: Event = {}

    def _usual(self, event: bytes) -> bytes | None:
        found = _USUAL.fullmatch(event)
        if found is None:
            return None
        index = int(found[2])
        try:
            text = json.loads(b'"%b"' % found[3])
        except ValueError:
            return None
        try:
            passed = self._text((index, "content"), f"choices[{index}].delta.content", text)
        except Blocked:  # it is told again of the same text
            return None
        self._open.add(index)
        return b"".join((found[1], encoded(passed), found[4], _END))

    def _stopped(self, event: Event) -> list[Event]:
        self._last = {name: event[name] for name in _OF_CHUNKS if name in event}
        is_chat = any("delta" in choice for choice in event["choices"])
        nothing: Event = {"delta": {}} if is_chat else {"text": ""}
        ended = {"logprobs": None, "finish_reason": "content_filter"}
        choices = [{"index": index, **nothing, **ended} for index in sorted(self._open)]
        return [{**self._last, "choices": choices}]

    def _farewell(self, counts: TokenCounts) -> bytes:
        if not self._tells_usage:
            return DONE_EVENT
        usage = {
            "prompt_tokens": counts.prompt,
            "total_tokens": counts.prompt + counts.completion,
            "completion_tokens": counts.completion,
        }
        return _written(b"", {**self._last, "choices": [], "usage": usage}) + DONE_EVENT

    def _events(self, event: Event) -> list[Event]:
        without_spelling(event)
        self._open.update(choice.get("index", 0) for choice in event.get("choices") or ())
        for choice in event.get("choices") or ():
            without_spelling(choice)
            self._choice(choice, choice.get("index", 0))
        return [event]

    def _choice(self, choice: Event, index: int) -> None:
        ends = choice.get("finish_reason") is not None
        if "delta" in choice:
            delta, path = choice["delta"] or {}, f"choices[{index}].delta"
            choice["delta"] = delta
        else:
            delta, path = choice, f"choices[{index}]"
        for name, value in list(delta.items()):
            if name in ("tool_calls", "role") or (delta is choice and name != "text"):
                continue
            if isinstance(value, str):
                delta[name] = self._text((index, name), f"{path}.{name}", value)
            else:
                delta[name] = self._walk.value(value, f"{path}.{name}", name)
        for call in delta.get("tool_calls") or ():
            self._call(call, index, path)
        if ends:
            self._finish(delta, index)
            self._open.discard(index)

    def _call(self, call: Event, index: int, path: str) -> None:
        number = call.get("index", 0)
        for what in ("function", "custom"):
            part, where = call.get(what), f"{path}.tool_calls[{number}].{what}"
            if not isinstance(part, dict):
                continue
            for name, value in list(part.items()):
                if name in ("arguments", "input") and isinstance(value, str):
                    key = (index, "tool_calls", number, what, name)
                    part[name] = self._text(key, f"{where}.{name}", value, is_json=name == "arguments")
                else:
                    part[name] = self._walk.value(value, f"{where}.{name}")

    def _finish(self, delta: Event, index: int) -> None:
        for key in self._keys(index):
            rest = self._rest(key)
            if not rest:
                continue
            if key[1] == "tool_calls":
                calls = delta.setdefault("tool_calls", [])
                calls.append({"index": key[2], key[3]: {key[4]: rest}})
            else:
                delta[key[1]] = (delta.get(key[1]) or "") + rest


class MessagesStream(GuardedStream):
    """Events of Anthropic's messages."""

    def __init__(self, rules: Rules, told: Callable[[Hit], None]) -> None:
        super().__init__(rules, told)
        self._open: list[int] = []

    def _farewell(self, counts: TokenCounts) -> bytes:
        events: list[Event] = [{"type": "content_block_stop", "index": index} for index in self._open]
        delta = {"stop_reason": "refusal", "stop_sequence": None}
        usage = {"input_tokens": counts.prompt, "output_tokens": counts.completion}
        events += [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]
        return b"".join(_written(b"event", one) for one in events)

    def _events(self, event: Event) -> list[Event]:
        kind, index = event.get("type"), event.get("index", 0)
        if kind == "content_block_delta":
            self._delta(event["delta"], index)
        elif kind == "content_block_start":
            self._open.append(index)
            event["content_block"] = self._walk.value(event.get("content_block"), f"content[{index}]")
        elif kind == "content_block_stop":
            self._open = [one for one in self._open if one != index]
            return [*self._rests(index), event]
        return [event]

    def _delta(self, delta: Event, index: int) -> None:
        for name, value in list(delta.items()):
            if name in ("type", "signature"):
                continue
            path = f"content[{index}].{name}"
            if isinstance(value, str):
                key = (index, delta.get("type"), name)
                delta[name] = self._text(key, path, value, name == "partial_json")
            else:
                delta[name] = self._walk.value(value, path)

    def _rests(self, index: int) -> list[Event]:
        rests = [(key, self._rest(key)) for key in self._keys(index)]
        return [
            {"type": "content_block_delta", "index": index, "delta": {"type": key[1], key[2]: rest}}
            for key, rest in rests
            if rest
        ]


_PLACES = ("item_id", "output_index", "content_index", "summary_index")
_ENDS = frozenset(
    f"response.{what}"
    for what in ("output_item.done", "content_part.done", "completed", "incomplete", "failed", "cancelled")
)
"""Events that end all texts that are not ended."""
_WHOLE = ("text", "arguments", "input", "refusal", "part", "item", "annotation")


class ResponsesStream(GuardedStream):
    """Events of responses. Those that are put in between are counted as well."""

    def __init__(self, rules: Rules, told: Callable[[Hit], None]) -> None:
        super().__init__(rules, told)
        self._again = Walk(rules, lambda hit: None)
        """Of what is told once more at an end."""
        self._more = 0
        self._last = 0
        self._response: Event = {}

    def _farewell(self, counts: TokenCounts) -> bytes:
        usage = {
            "input_tokens": counts.prompt,
            "output_tokens": counts.completion,
            "total_tokens": counts.prompt + counts.completion,
        }
        response = {
            **self._response,
            "usage": usage,
            "status": "incomplete",
            "incomplete_details": {"reason": "content_filter"},
            "output": [],
        }
        event = {"type": "response.incomplete", "sequence_number": self._last + 1, "response": response}
        return _written(b"event", event)

    def _events(self, event: Event) -> list[Event]:
        kind = str(event.get("type"))
        made = [event]
        if isinstance(event.get("response"), dict):
            made = [*(self._rests(event, kind) if kind in _ENDS else ()), event]
            self._whole(event["response"])
        elif kind.endswith(".delta") and isinstance(event.get("delta"), str):
            what = kind.removesuffix(".delta")
            key = (what, tuple(event.get(place) for place in _PLACES))
            path = f"output[{event.get('output_index', 0)}]"
            event["delta"] = self._text(key, path, event["delta"], what.endswith("arguments"))
        else:
            made = [*self._rests(event, kind), event]
            for name in _WHOLE:
                if name in event:
                    path = f"output[{event.get('output_index', 0)}]"
                    event[name] = self._again.value(event[name], path, name)
        for one in (event, event.get("part")):
            if isinstance(one, dict) and one.get("logprobs"):
                one["logprobs"] = []
        return self._numbered(made)

    def _whole(self, response: Event) -> None:
        response["output"] = guarded_output(self._again, response.get("output"))
        self._response = response

    def _rests(self, event: Event, kind: str) -> list[Event]:
        """What was held back of the texts that an event ends: its own, or all of its item."""
        ended = self._keys(kind.removesuffix(".done")) if kind.endswith(".done") else []
        if kind in _ENDS:
            ended = list(self._texts)
        made = []
        for key in ended:
            places = dict(zip(_PLACES, key[1], strict=True))
            if "output_index" in event and places["output_index"] != event["output_index"]:
                continue
            rest = self._rest(key)
            if rest:
                told = {name: place for name, place in places.items() if place is not None}
                more: Event = {"logprobs": []} if key[0] == "response.output_text" else {}
                made.append({"type": f"{key[0]}.delta", **told, "delta": rest, **more})
        return made

    def _numbered(self, events: list[Event]) -> list[Event]:
        own = events[-1].get("sequence_number")
        if not isinstance(own, int):
            return events
        for event in events:
            event["sequence_number"] = own + self._more
            self._more += event is not events[-1]
        self._last = own + self._more
        return events


def stream_under(
    api: Api, rules: Rules, told: Callable[[Hit], None], tells_usage: bool = False
) -> GuardedStream:
    """A stream of the API. ``tells_usage``: the client asked for it at the end."""
    if api == "messages":
        return MessagesStream(rules, told)
    return ResponsesStream(rules, told) if api == "responses" else ChatStream(rules, told, tells_usage)


def _written(name: bytes, event: Event) -> bytes:
    """An event under the name that its data says, where events have names."""
    if name:
        name = b"event: %b\n" % str(event.get("type", "")).encode()
    return b"%bdata: %b\n\n" % (name, encoded(event))

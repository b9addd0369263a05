"""Readers of what others write, each given any bytes: they answer or raise a typed error, nothing else.

``python -m tests.fuzz.run <target>`` lets atheris look for bytes that break this; a test of the unit tests
gives each target what hypothesis thinks of.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from billing.core.events import UsageEvent
from common.errors import ComputilityError, EngineFailed, InvalidInput, TooLarge, openai_body
from inference.core.body import BodyLimits, Task, engine_body, models_named, parse_request
from inference.core.engine_errors import error_from_engine, error_in_stream
from inference.core.sse import StreamMeter, UsageShown
from inference.core.usage import find_usage, with_null_member, without_member
from inference.gateway.aside import REJECTED_FILE, read_rejected
from inference.gateway.journal import SLOT_BYTES, read_journal

Target = Callable[[bytes], None]

_LIMITS = BodyLimits(sequences=16, inputs=16, values=1000)
_SHOWN: tuple[UsageShown, ...] = ("none", "final", "all")


def bodies(data: bytes) -> None:
    """A request of any task: refused with an error that can be sent, or made into JSON for the engine."""
    tasks: tuple[Task, ...] = get_args(Task)
    models_named(data)
    for task in tasks:
        try:
            request = parse_request(task, data, _LIMITS)
        except (InvalidInput, TooLarge) as error:
            _can_be_sent(error)
            continue
        sent = json.loads(engine_body(request, "engine", "tenant"))
        assert sent["model"] == "engine"
        assert request.sequences >= 1


def stream(data: bytes) -> None:
    """An engine's stream: the same bytes and counts however it is cut."""
    for shown in _SHOWN:
        whole, parts = StreamMeter(shown, choices_per_prompt=2), StreamMeter(shown, choices_per_prompt=2)
        try:
            expected = whole.feed(data)
            got = b"".join(parts.feed(data[at : at + 7]) for at in range(0, len(data), 7))
        except EngineFailed as error:
            _can_be_sent(error)
            continue
        assert got == expected
        assert parts.counts == whole.counts
        _can_be_sent(error_in_stream(whole.error, "messages"))


def usage(data: bytes) -> None:
    """A plain answer of an engine."""
    member = find_usage(data)
    if member is not None:
        assert member.counts.cached <= member.counts.prompt
        without_member(data, member)
        with_null_member(data, member)


def engine_error(data: bytes) -> None:
    """An engine's error, which the client is told in other words."""
    for status in (400, 404, 418, 500):
        _can_be_sent(error_from_engine(status, data, "messages"))


def event(data: bytes) -> None:
    """A usage event: refused with the field named, or the same when it is written and read again."""
    try:
        content: Any = json.loads(data)
        found = UsageEvent.from_dict(content)
    except (ValueError, RecursionError):
        return
    except InvalidInput as error:
        _can_be_sent(error)
        return
    assert UsageEvent.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert found.digest()


def journal(data: bytes) -> None:
    """What lies in a journal: events, odd ones with a reason, or torn slots."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(data.ljust(SLOT_BYTES, b"\0"))
        for _, reason in read_journal(path).odd:
            assert reason


def set_aside(data: bytes) -> None:
    """A file of set-aside usage, as a person may have left it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / REJECTED_FILE).write_bytes(data)
        for line in read_rejected(Path(folder)):
            assert line.text


_CHAT = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "n": 2}
_TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"$ref": "#/$defs/a", "$defs": {"a": {}}}},
}
_BODIES: list[object] = [
    {"model": "m", "prompt": [[1, 2]], "best_of": 2},
    {"model": "m", "input": ["a"], "encoding_format": "float"},
    {**_CHAT, "structured_outputs": {"grammar": "root ::= a"}},
    {**_CHAT, "structured_outputs": {"json": {"$ref": "#/items/0", "items": [{}]}}},
    {
        **_CHAT,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
    },
    {**_CHAT, "stream_options": {"include_usage": True}, "vllm_xargs": {"priority": 1}, "bad_words": ["a"]},
]
_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
_EVENT = UsageEvent("use-1", "inference", "acme", "web", 1, 2, {"prompt_tokens": 1}, labels={"task": "chat"})
SEEDS: dict[str, list[object]] = {
    "bodies": [
        {**_CHAT, "tools": [_TOOL], "stop": ["a"], "stream": True},
        *_BODIES,
    ],
    "stream": [{"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": _USAGE}],
    "usage": [{"choices": [], "usage": _USAGE}],
    "engine_error": [{"error": {"message": "{'loc': 'body.a.0', 'msg': 'Input should be'}", "param": "a"}}],
    "event": [_EVENT.to_dict()],
    "journal": [_EVENT.to_dict()],
    "set_aside": [{"reason": "odd", "event": _EVENT.to_dict()}],
}
"""What each target is meant to read: where a search begins."""

TARGETS: dict[str, Target] = {
    target.__name__: target for target in (bodies, stream, usage, engine_error, event, journal, set_aside)
}


def _can_be_sent(error: ComputilityError) -> None:
    assert json.dumps(openai_body(error)).encode()
    assert error.message

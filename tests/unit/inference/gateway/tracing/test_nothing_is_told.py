"""No prompt, no answer, no key and no header of a client is in any span, whatever is sent and answered.

What a client says for others to read may be: a plain id for its request, and its trace.
"""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from tests.fixtures.gateway import SECRET
from tests.unit.inference.gateway.tracing.traced import PARENT, traced

WORD = "Zq7hidden"
"""In no id that is made by chance: those have no i."""
MARK, HIDDEN = f"{WORD} private", (WORD.encode(), WORD.lower().encode())
TEXTS = st.sampled_from(
    [MARK, f"{MARK} \u00e9\n", f'"usage":{{"{MARK}":1}},"finish_reason":"{MARK}"', f"\\{MARK}"]
)
PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    f"/v1/files/{WORD}",
    f"/v1/models/{WORD}",
]
FIELDS = [
    "user",
    "prompt_cache_key",
    "tools",
    "metadata",
    "guided_regex",
    "n",
    "stream_options",
    MARK,
    "seed",
]
HEADERS = [
    "user-agent",
    "tracestate",
    "traceparent",
    "baggage",
    "x-request-id",
    "b3",
    "content-type",
    WORD.lower(),
]
EVENT = {
    "id": MARK,
    "object": MARK,
    "created": 1,
    "model": MARK,
    "choices": [{"index": 0, "delta": {"content": MARK}, "finish_reason": WORD}],
    "usage": {"prompt_tokens": 3, "total_tokens": 4, "completion_tokens": 1},
}
BEHAVIOURS: list[dict[str, Any]] = [
    {},
    {"fail_with": (400, {"error": {"message": MARK, "type": MARK, "code": MARK, "param": MARK}})},
    {"fail_with": (500, {"error": {"message": MARK, "code": MARK}})},
    {"script": [f"data: {json.dumps(EVENT)}\n\n".encode(), b"data: [DONE]\n\n"]},
    {"script": [f"data: {json.dumps(EVENT)}\n\n".encode(), None]},
    {"script": [f'data: {{"error":{{"message":"{MARK}","code":400,"type":"{MARK}"}}}}\n\n'.encode()]},
    {"script": [json.dumps({**EVENT, "choices": [{"message": {"content": MARK}}]}).encode()]},
]


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """One request and how the engine behaves meanwhile."""
    text = draw(TEXTS)
    body: dict[str, Any] = {
        "model": draw(st.sampled_from(["tiny", "tiny", "tiny", MARK])),
        "messages": [
            {"role": draw(st.sampled_from(["user", "user", "system", MARK])), "content": text, "name": text}
        ],
        "prompt": text,
        "input": text,
        "stop": [text],
        "max_tokens": 2,
        "stream": draw(st.booleans()),
        **draw(st.dictionaries(st.sampled_from(FIELDS), TEXTS, max_size=2)),
    }
    headers = draw(
        st.dictionaries(st.sampled_from(HEADERS), st.sampled_from([MARK, f"a b={MARK},="]), max_size=3)
    )
    if draw(st.booleans()):
        headers = {
            **headers,
            "traceparent": draw(st.sampled_from([PARENT, f"{PARENT}-{MARK}", f"01{PARENT[2:]}-{MARK}"])),
        }
    path = draw(st.sampled_from([*PATHS[:2] * 3, *PATHS]))
    return {
        "body": None if path.startswith("/v1/files") else body,
        "path": path,
        "method": draw(st.sampled_from(["", "", "", "DELETE", MARK])),
        "secret": draw(st.sampled_from([SECRET, SECRET, SECRET, MARK])),
        "headers": headers,
        "behaviour": draw(st.sampled_from(BEHAVIOURS)),
    }


@settings(max_examples=12)
@given(drawn=st.lists(requests(), min_size=8, max_size=8))
def test_what_clients_and_engines_write_is_in_no_span(drawn: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as home, pytest.MonkeyPatch.context() as monkeypatch:
        exported = asyncio.run(_exported(Path(home), monkeypatch, drawn))
    for hidden in (*HIDDEN, SECRET.encode()):
        assert hidden not in exported


async def _exported(home: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[dict[str, Any]]) -> bytes:
    """All that goes to the collector, as it goes."""
    async with traced(home / "home", monkeypatch, engines=2) as (front, spans):
        await front.start_control()
        for one in drawn:
            for engine in front.engines:
                engine.fail_with, engine.script = None, None
                for name, value in one["behaviour"].items():
                    setattr(engine, name, value)
            visit = front.visit(one["body"], one["path"], one["method"], one["secret"])
            headers = {name: value.encode("latin-1") for name, value in one["headers"].items()}
            visit.scope["headers"] += [(name.encode(), value) for name, value in headers.items()]
            await visit.made_to(front.gateway)
        await front.ask({"model": "tiny", "prompt": MARK}, "/v1/completions")
        assert spans.all  # there is something to look at
        return encode_spans(spans.all).SerializeToString()

"""Requests made up from a description of the gateway's paths, and odd ones that do not keep to it: each is
answered in time, well or with an error in OpenAI's shape, and never as the server's mistake."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from common.auth import engine_key
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import SECRET, TOKEN, Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

EXAMPLES = int(os.environ.get("ANY_REQUEST_EXAMPLES", "12"))
"""Of each operation, for each mode and caller; more by hand."""
ANSWER_SECONDS = 20
KEYS = {"a member": f"Bearer {SECRET}", "a stranger": "Bearer ck-nobody"}
TEXT = {"type": "string", "maxLength": 40}
MODEL = {"type": "string", "enum": ["tiny", "tiny", "tiny", "none"]}
SAMPLED = {
    "model": MODEL,
    "max_tokens": {"type": "integer", "minimum": 1, "maximum": 8},
    "n": {"type": "integer", "minimum": 1, "maximum": 3},
    "stream": {"type": "boolean"},
    "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "stop": {"anyOf": [TEXT, {"type": "array", "items": TEXT, "maxItems": 5}]},
    "logprobs": {"type": ["boolean", "integer", "null"]},
    "seed": {"type": "integer"},
    "user": TEXT,
    "response_format": {
        "type": "object",
        "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
    },
}
MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "user", "assistant", "tool"]},
        "content": {
            "anyOf": [
                TEXT,
                {"type": "array", "items": {"type": "object", "properties": {"type": TEXT, "text": TEXT}}},
                {"type": "null"},
            ]
        },
    },
}
TOOL = {
    "type": "object",
    "properties": {
        "type": {"enum": ["function"]},
        "function": {"type": "object", "properties": {"name": TEXT}},
    },
}


def _body(required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": ["model", *required], "properties": properties}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _operation(parameters: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {"parameters": parameters or [], "responses": {"default": {"description": "any"}}, **more}


def _named(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": TEXT}


PROMPT = {"anyOf": [TEXT, {"type": "array", "items": TEXT}, {"type": "array", "items": {"type": "integer"}}]}
DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "gateway", "version": "1"},
    "paths": {
        "/v1/chat/completions": {
            "post": _operation(
                [_named("X-Request-Id", "header"), _named("traceparent", "header")],
                requestBody=_body(
                    ["messages"],
                    messages={"type": "array", "items": MESSAGE, "maxItems": 4},
                    tools={"type": "array", "items": TOOL, "maxItems": 2},
                    **SAMPLED,
                ),
            )
        },
        "/v1/completions": {"post": _operation(requestBody=_body(["prompt"], prompt=PROMPT, **SAMPLED))},
        "/v1/embeddings": {
            "post": _operation(
                requestBody=_body(
                    ["input"], model=MODEL, input=PROMPT, encoding_format=TEXT, dimensions={"type": "integer"}
                )
            )
        },
        "/v1/models": {"get": _operation([_named("limit", "query")])},
        "/v1/models/{name}": {
            "get": _operation([_named("name", "path")]),
            "delete": _operation([_named("name", "path")]),
        },
        "/v1/files": {"get": _operation([_named("purpose", "query")])},
        "/v1/files/{id}": {
            "get": _operation([_named("id", "path")]),
            "delete": _operation([_named("id", "path")]),
        },
        "/v1/{other}": {
            "get": _operation([_named("other", "path")]),
            "post": _operation([_named("other", "path")]),
        },
        "/healthz": {"get": _operation()},
        "/readyz": {"get": _operation()},
        "/metrics": {"get": _operation()},
    },
}


async def test_whatever_is_asked_of_the_gateway_is_answered_and_never_as_its_mistake(tmp_path: Path) -> None:
    engine = FakeEngine(key=engine_key(TOKEN))
    await engine.start()
    try:
        async with serving(tmp_path, table([("r0", engine.url)], context_tokens=64)) as front:
            await asyncio.to_thread(_ask_all, front)
    finally:
        await engine.stop()


def _ask_all(front: Serving) -> None:
    schema = schemathesis.openapi.from_dict(DESCRIPTION)
    schema.config.update(base_url=front.url)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        _ask(found.ok())


def _ask(operation: Any) -> None:
    modes = [
        operation.as_strategy(generation_mode=mode)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]

    @settings(
        max_examples=2 * EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(*modes), who=st.sampled_from(list(KEYS)))
    def ask(case: Any, who: str) -> None:
        answer = case.call(headers={"Authorization": KEYS[who]}, timeout=ANSWER_SECONDS)
        asked = f"{operation.method} {answer.request.url} by {who}: {answer.text[:300]}"
        assert answer.status_code < 500, asked
        kind = answer.headers.get("content-type", [""])[0].partition(";")[0]
        if answer.status_code >= 400 and operation.method != "head":
            error = answer.json()["error"]
            assert error["message"], asked
            assert error["type"], asked
        elif kind == "text/event-stream":
            assert answer.text.endswith("data: [DONE]\n\n"), asked
        else:
            assert kind in ("application/json", "text/plain"), asked

    ask()

"""What spans say, and in which words: those of OpenTelemetry's conventions where there are some, else ours.

Every value is a name of the platform's own resources, a number, or one of a few words. What a client or an
engine wrote is none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from common.vocabulary import MAX_NUMBER, shortened
from inference.core.body import Api

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_CHOICES = "gen_ai.request.choice.count"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK_SECONDS = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
ERROR_TYPE = "error.type"

TENANT = "computility.tenant"
PROJECT = "computility.project"
REQUEST_ID = "computility.request_id"
BASE_MODEL = "computility.base_model"
OUTCOME = "computility.outcome"
VARIANT = "computility.variant"
FIRST_LEG = "computility.first_leg"
"""What became of it: ``handed_over``, ``failed``, or why there was none."""
LEG = "computility.leg"
CALL_NUMBER = "computility.call.number"
"""Of all calls of engines that a request took, from 1 on."""
CALL_WHY = "computility.call.why"
ENGINE = "computility.engine"
ENGINE_ROLE = "computility.engine.role"
DEVICE_CLASS = "computility.device_class"
ROUTING_REASON = "computility.routing.reason"

OPERATIONS: dict[Api, str] = {
    "chat": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "messages": "chat",
    "count_tokens": "count_tokens",
    "responses": "chat",
    "rerank": "rerank",
    "score": "score",
    "tokenize": "tokenize",
    "detokenize": "detokenize",
}
OURS, ENGINES = "computility", "vllm"
"""Who provides: of the span of a request, and of those of calls."""
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER = "_OTHER"
NAME_CHARACTERS = 256

_REASON = re.compile(rb'(?<!\\)"finish_reason"\s*:\s*"(\w{1,32})"')
_REASONS = frozenset(
    {b"stop", b"length", b"tool_calls", b"function_call", b"content_filter", b"abort", b"error"}
)
MAX_REASONS = 16
"""A span tells the reasons of so many choices."""
SEARCHED_BYTES = 256 * 1024
"""At the end of an answer in one piece."""


@lru_cache(maxsize=4096)
def name(text: str) -> str:
    """A name as a span may hold it."""
    return shortened(text, NAME_CHARACTERS)


def count(number: int) -> int:
    """A number that the protocol can hold."""
    return max(0, min(number, MAX_NUMBER))


def finish_reasons(data: bytes) -> list[str]:
    """Why choices ended, of a part of an answer: known words only, whatever the engine wrote. A quote within
    a string has a backslash before it, so that no answer can hold such a member."""
    if b'"finish_reason"' not in data:
        return []
    found: Iterable[re.Match[bytes]] = _REASON.finditer(data[-SEARCHED_BYTES:])
    reasons = [match[1] if match[1] in _REASONS else b"other" for match in found]
    return [reason.decode() for reason in reasons[:MAX_REASONS]]


@lru_cache(maxsize=1024)
def address_of(url: str) -> tuple[str, int]:
    """Host and port of an engine."""
    parts = urlsplit(url)
    return name(parts.hostname or ""), parts.port or (443 if parts.scheme == "https" else 80)

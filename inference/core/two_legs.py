"""A request in two legs: one engine reads the prompt (prefill), another one writes the answer (decode).

The prefill engine makes one token, which nobody is given, and tells where the KV cache of the prompt lies;
the decode engine fetches it from there and goes on. What is told is used once: of a cache that has been
fetched or given up the place may hold another prompt by now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.compact_json import compact

DECODE_ONLY = (
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "logprobs",
    "top_logprobs",
    "logprob_token_ids",
)
"""Members of a request that say nothing of its prompt: the prefill engine is not told them."""

BYTES_PER_TOKEN = 4
"""Of a request, about, in most languages and tokenizers."""

_TO_BE_FETCHED = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
_NEEDED = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port")
_NO_MODEL = " "
"""No served name is blank."""


def why_one_leg(task: str, content: Mapping[str, Any], choices: int, prompts: int) -> str:
    """Why one engine has to do all of a checked request, in a word; empty when it need not.

    A cache is fetched once, so it serves one prompt and one choice. Log probabilities of the prompt are made
    while it is read, and images and sounds have caches of their own.
    """
    if task == "embeddings":
        return "embeddings"
    if prompts > 1:
        return "prompts"
    if choices > 1:
        return "choices"
    if content.get("echo") or content.get("prompt_logprobs") is not None:
        return "prompt_logprobs"
    return "media" if _has_more_than_text(content) else ""


def _has_more_than_text(content: Mapping[str, Any]) -> bool:
    if content.get("prompt_embeds") is not None:
        return True
    messages = content.get("messages")
    for message in messages if isinstance(messages, list) else ():
        parts = message.get("content") if isinstance(message, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and part.get("type") != "text":
                return True
    return False


def members(content: Mapping[str, Any]) -> bytes:
    """``,"name":value`` for each: to be put behind the others of a JSON object that has some."""
    if not content:
        return b""
    return b"," + compact(content).encode()[1:-1]


PREFILL_MEMBERS = members({"stream": False, "max_tokens": 1, "kv_transfer_params": _TO_BE_FETCHED})
"""What a prefill engine is told in place of ``DECODE_ONLY``."""


def told_cache(answer: bytes | None) -> dict[str, Any] | None:
    """Where a prefill engine says that the KV cache lies; None when it does not, as after an abort."""
    try:
        content = json.loads(answer or b"null")
    except (ValueError, RecursionError):
        return None
    place = content.get("kv_transfer_params") if isinstance(content, dict) else None
    if not isinstance(place, dict) or not place.get("do_remote_prefill"):
        return None
    return place if all(place.get(name) for name in _NEEDED) else None


def giving_up(place: Mapping[str, Any]) -> bytes:
    """The body of a completion that a decode engine refuses, telling the prefill engine to free the cache."""
    refused = {"model": _NO_MODEL, "prompt": "x", "max_tokens": 1, "kv_transfer_params": place}
    return json.dumps(refused, separators=(",", ":")).encode()

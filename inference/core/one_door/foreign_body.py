"""The bodies of requests to external models: the members of the provider's API, and no others.

What an API does not have may mean anything to a provider: aggregators have members that choose another model,
or where it is. What names an end user is read by no guard, and a tier of service has a price of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.compact_json import compact
from common.errors import InvalidInput
from inference.core.body import Api, InferenceRequest

_SAMPLING = frozenset(
    {
        *(
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "max_tokens",
            "n",
            "presence_penalty",
            "seed",
            "stop",
        ),
        *("min_p", "repetition_penalty", "stream", "temperature", "top_k", "top_p"),
    }
)
_MEMBERS: Mapping[Api, frozenset[str]] = {
    "chat": _SAMPLING
    | {
        *("audio", "function_call", "functions", "max_completion_tokens", "messages", "modalities"),
        *("parallel_tool_calls", "prediction", "reasoning_effort", "response_format", "tool_choice", "tools"),
        *("chat_template_kwargs", "enable_thinking", "thinking", "top_logprobs", "verbosity"),
    },
    "completions": _SAMPLING | {"best_of", "echo", "prompt", "suffix"},
    "embeddings": frozenset({"dimensions", "encoding_format", "input", "input_type"}),
    "messages": frozenset(
        {
            *("max_tokens", "messages", "output_config", "stop_sequences", "stream", "system", "temperature"),
            *("thinking", "tool_choice", "tools", "top_k", "top_p"),
        }
    ),
}
"""What goes to a provider, by API. All else stays here."""
_OWN_TOOLS = (None, "custom", "function")
"""Types of tools that the client runs itself."""


def foreign_body(request: InferenceRequest, model: str) -> bytes:
    """The body for a provider's API: with the provider's name of the model, and usage asked for. Raises
    ``InvalidInput`` for tools that the provider would run: they send data on, and cost what is not counted.
    """
    content = json.loads(b"".join((request.rest[:-1], request.ending.encode(), b"}")))
    _check_tools(content.get("tools"))
    members = _MEMBERS[request.api]
    rest = {name: value for name, value in content.items() if name in members}
    if request.stream and request.api != "messages":
        rest["stream_options"] = {"include_usage": True}
    return compact({"model": model, **rest}).encode()


def _check_tools(tools: Any) -> None:
    for position, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in _OWN_TOOLS:
            path = f"tools[{position}].type"
            message = f"{path}: others serve this model, and may not run tools for it: the client does"
            raise InvalidInput(message, "unsupported_value", path)

"""Request bodies of the inference paths: checked where the gateway needs it, passed on otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from common.errors import ContextExceeded, InvalidInput
from inference.core.sse import UsageShown

Task = Literal["chat", "completions", "embeddings"]

_ENGINE_ONLY = ("kv_transfer_params", "ec_transfer_params", "priority", "cache_salt", "request_id")
"""Fields that reach across tenants inside an engine: a client's are dropped, also in ``vllm_xargs``."""

_INPUT_FIELD: dict[Task, str] = {"chat": "messages", "completions": "prompt", "embeddings": "input"}


@dataclass(frozen=True)
class InferenceRequest:
    """One request that passed the checks. ``content`` is the client's JSON object."""

    task: Task
    content: dict[str, Any]
    model: str
    stream: bool
    usage_shown: UsageShown
    choices_per_prompt: int
    prompts: int

    @property
    def input_field(self) -> str:
        """``messages``, ``prompt`` or ``input``."""
        return _INPUT_FIELD[self.task]


def parse_request(task: Task, raw: bytes) -> InferenceRequest:
    """Check a body. Raises ``InvalidInput`` naming the position or, in ``param``, the field."""
    content = _parse_json(raw)
    model = _required(content, "model")
    if not isinstance(model, str) or not model:
        _wrong_type("model", "a non-empty string", model)
    stream = task != "embeddings" and _optional(content, "stream", _is_bool, "true or false", False)
    options = _optional(content, "stream_options", _is_object, "an object", {})
    for name in ("max_tokens", "max_completion_tokens"):
        _optional(content, name, _is_count, "a whole number of at least 0", None)
    if task == "embeddings":
        formats = "float or base64"  # others of the engine's are binary and tell no usage
        _optional(content, "encoding_format", lambda value: value in ("float", "base64"), formats, None)
    if _optional(content, "use_beam_search", _is_bool, "true or false", False):
        raise InvalidInput(
            "use_beam_search is not supported: engines do not tell the tokens that it takes",
            "unsupported_value",
            "use_beam_search",
        )
    n = _optional(content, "n", _is_positive, "a whole number of at least 1", 1)
    prompts = _check_messages(content) if task == "chat" else _check_prompt(content, _INPUT_FIELD[task])
    return InferenceRequest(task, content, model, stream, _usage_shown(options), n, prompts)


def check_context(request: InferenceRequest, context_tokens: int | None) -> None:
    """Raise ``ContextExceeded`` when more new tokens are asked for than the context can ever hold."""
    for name in ("max_tokens", "max_completion_tokens"):
        asked = request.content.get(name)
        if context_tokens is not None and asked is not None and asked > context_tokens:
            raise ContextExceeded(
                f"{name} is {asked}, but the context of {request.model} holds {context_tokens} tokens "
                f"for prompt and answer together; ask for fewer",
                param=name,
            )


def engine_body(request: InferenceRequest, backend_model: str, cache_salt: str) -> bytes:
    """The body for the engine: running usage asked for, engine-only fields dropped, the prefix cache salted.

    Raises ``InvalidInput`` when a number is too large for JSON.
    """
    content = {name: value for name, value in request.content.items() if name not in _ENGINE_ONLY}
    content["model"] = backend_model
    extra = content.get("vllm_xargs")
    if isinstance(extra, dict):
        content["vllm_xargs"] = {name: value for name, value in extra.items() if name not in _ENGINE_ONLY}
    if request.task != "embeddings":
        content["cache_salt"] = cache_salt
    if request.stream:
        asked = content.get("stream_options") or {}
        content["stream_options"] = {**asked, "include_usage": True, "continuous_usage_stats": True}
    try:
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise InvalidInput("a number in the body is out of range", code="invalid_json") from error


def _parse_json(raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8 at byte {error.start}", code="invalid_json") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno} (character {error.pos})"
        raise InvalidInput(f"the body is not JSON: {error.msg} at {place}", code="invalid_json") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(content, dict):
        raise InvalidInput("the body must be a JSON object", code="invalid_type")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _required(content: dict[str, Any], name: str) -> Any:
    if content.get(name) is None:
        raise InvalidInput(f"missing required parameter: {name}", "missing_required_parameter", name)
    return content[name]


def _optional(
    content: dict[str, Any], name: str, good: Callable[[Any], bool], what: str, default: Any
) -> Any:
    value = content.get(name)
    if value is None:
        return default
    if not good(value):
        _wrong_type(name, what, value)
    return value


def _wrong_type(name: str, what: str, value: Any) -> NoReturn:
    shown = json.dumps(value)
    shown = shown if len(shown) <= 40 else shown[:40] + "…"
    raise InvalidInput(f"{name} must be {what}, not {shown}", "invalid_type", name)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_count(value) and value > 0


def _check_messages(content: dict[str, Any]) -> int:
    messages = _required(content, "messages")
    if not isinstance(messages, list) or not messages:
        _wrong_type("messages", "a list of at least one message", messages)
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            _wrong_type(f"messages[{position}]", "an object", message)
    return 1


def _check_prompt(content: dict[str, Any], name: str) -> int:
    """How many prompts ``content[name]`` holds: one for a text or a list of token ids."""
    prompt = _required(content, name)
    if isinstance(prompt, str):
        return 1
    if not isinstance(prompt, list) or not prompt:
        _wrong_type(name, "a string or a list of strings or token ids", prompt)
    if all(_is_count(token) for token in prompt):
        return 1
    for position, item in enumerate(prompt):
        if not isinstance(item, str | list | dict):
            _wrong_type(f"{name}[{position}]", "a string or a list of token ids", item)
    return len(prompt)


def _usage_shown(options: dict[str, Any]) -> UsageShown:
    for name in ("include_usage", "continuous_usage_stats"):
        value = options.get(name)
        if value is not None and not isinstance(value, bool):
            _wrong_type(f"stream_options.{name}", "true or false", value)
    if not options.get("include_usage"):
        return "none"
    return "all" if options.get("continuous_usage_stats") else "final"

"""Request bodies of the inference paths: checked where the gateway needs it, passed on otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NoReturn

from common.compact_json import compact
from common.errors import ContextExceeded, InvalidInput
from common.records import record
from common.strict_json import parse_json
from inference.core.body_size import check_nesting, check_values
from inference.core.continuable import Continuable, continuable
from inference.core.fields import (
    is_bool,
    is_count,
    is_filled_text,
    is_object,
    is_positive,
    optional,
    required,
    wrong_type,
)
from inference.core.media import check_media
from inference.core.messages import check_messages
from inference.core.options import check_options
from inference.core.reported import told_class, told_for_reports
from inference.core.sse import UsageShown
from inference.core.two_legs import BYTES_PER_TOKEN, DECODE_ONLY, PREFILL_MEMBERS, members, why_one_leg

Task = Literal["chat", "completions", "embeddings"]
Api = Literal[Task, "messages", "count_tokens", "responses", "rerank", "score", "tokenize", "detokenize"]
"""What a request is written for: OpenAI's API of its task, or one of the others that engines speak."""

TEXTS_PER_ANSWER = 16
"""So many texts to embed count as one answer where a key's load is limited."""

_ENGINE_ONLY = ("kv_transfer_params", "ec_transfer_params", "priority", "cache_salt", "request_id")
"""Fields that reach across tenants inside an engine: a client's are dropped, also in ``vllm_xargs``."""

_INPUT_FIELD: dict[Api, str] = {
    "chat": "messages",
    "completions": "prompt",
    "embeddings": "input",
    "messages": "messages",
    "count_tokens": "messages",
    "responses": "input",
    "rerank": "documents",
    "score": "text_2",
    "tokenize": "prompt",
    "detokenize": "tokens",
}
_BEFORE_INPUT = ("chat_template", "chat_template_kwargs", "reasoning_effort", "documents", "tools")
"""What a chat template puts before the messages, or makes them with."""
_SESSION = ("prompt_cache_key", "user")
"""What names a client's session, the best first."""
SESSION_CHARACTERS = 256
"""So much of its name tells a session apart: it is hashed for each choice of a replica."""
_LOOKED_AT = frozenset(
    {
        *("bad_words", "response_format", "stop", "structured_outputs", "tool_choice", "tools"),
        *("best_of", "encoding_format", "n", "stream_options", "use_beam_search"),
        *_SESSION,
    }
)
"""Members that most requests have none of, and whose checks take a good part of the time of all."""
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
_TELL_TOKENS = members({"return_token_ids": True})
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_MODELS_LOOKED_AT = 16


@dataclass(frozen=True)
class BodyLimits:
    """What one request may ask for. ``sequences`` are answers that the engine makes (choices times prompts),
    ``inputs`` texts of one embeddings request, ``values`` entries of all lists and objects together,
    ``media_hosts`` those from which engines fetch images and the like."""

    sequences: int = 128
    inputs: int = 2048
    values: int = 1_000_000
    media_hosts: Sequence[str] = ()


@record(frozen=True)
class InferenceRequest:
    """One request that passed the checks. ``rest`` is the JSON object for the engine, less the model and less
    what only the engine that answers has to know, which is in ``ending``: members, each behind a comma.

    It begins with what the prompt is made of: ``prompt`` is so much of it, the same for the same prompt and
    with the same beginning for one that goes on. ``token_limits`` are the fields that bound the answer, with
    what they ask for. ``session`` is the client's name for requests that belong together, empty without one.
    ``one_leg``: why one engine has to do all of it, in a word. ``continuable``: how another engine can go on
    with the answer to a stream; None where none can. ``user`` and ``tags`` are for reports of usage.
    ``data_class``: of its data, as its metadata say; empty = they say nothing.
    ``other_api``: what it is written for, where that is not OpenAI's API of the task.
    """

    task: Task
    model: str
    stream: bool
    usage_shown: UsageShown
    choices_per_prompt: int
    prompts: int
    token_limits: tuple[tuple[str, int], ...]
    rest: bytes
    ending: str = ""
    one_leg: str = ""
    prompt_bytes: int = 0
    session: str = ""
    continuable: Continuable | None = None
    user: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    other_api: Api | None = None
    data_class: str = ""

    @property
    def api(self) -> Api:
        """What it is written for."""
        return self.other_api or self.task

    @property
    def prompt_tokens_about(self) -> int:
        """How long its prompt is, by the bytes of the request."""
        return len(self.rest) // BYTES_PER_TOKEN

    @property
    def prompt(self) -> memoryview:
        """The JSON that the prompt is made of."""
        return memoryview(self.rest)[: self.prompt_bytes]

    @property
    def input_field(self) -> str:
        """``messages``, ``prompt`` or ``input``."""
        return _INPUT_FIELD[self.api]

    @property
    def sequences(self) -> int:
        """Answers that the engine works on at once; texts to embed are little work, a few count as one."""
        if self.task == "embeddings":
            return -(-self.prompts // TEXTS_PER_ANSWER)
        return self.choices_per_prompt * self.prompts


def parse_request(task: Task, raw: bytes, limits: BodyLimits = BodyLimits()) -> InferenceRequest:
    """Check a body. Raises ``InvalidInput`` naming the position or, in ``param``, the field, and ``TooLarge``
    for more values than the limit."""
    content = parse_object(raw, limits)
    model = required(content, "model")
    if not isinstance(model, str) or not model:
        wrong_type("model", "a non-empty string", model)
    stream = task != "embeddings" and optional(content, "stream", is_bool, "true or false", False)
    usual = _LOOKED_AT.isdisjoint(content)
    options = {} if usual else optional(content, "stream_options", is_object, "an object", {})
    token_limits = tuple(
        [
            (name, optional(content, name, is_count, "a whole number of at least 0"))
            for name in _TOKEN_LIMITS
            if content.get(name) is not None
        ]
    )
    choices = best_of = 1
    if not usual:
        _refuse_what_is_not_counted(task, content)
        choices = optional(content, "n", is_positive, "a whole number of at least 1", 1)
        check_options(content)
    check_media(content, limits.media_hosts)
    if task == "chat":
        check_messages(content)
        prompts = 1
    else:
        prompts = _count_prompts(content, _INPUT_FIELD[task])
    if not usual:
        best_of = optional(content, "best_of", is_positive, "a whole number of at least 1", 1)
    _check_sequences(task, max(choices, best_of), prompts, limits)
    shown = _usage_shown(options)
    rest, prompt_bytes, ending = _rest(task, content, stream)
    one_leg = why_one_leg(task, content, max(choices, best_of), prompts)
    user, tags = told_for_reports(content)
    return InferenceRequest(
        task,
        model,
        stream,
        shown,
        choices,
        prompts,
        token_limits,
        rest,
        ending.decode(),
        one_leg,
        prompt_bytes,
        "" if usual else _session(content),
        continuable(task, content, prompts, media=one_leg == "media") if stream else None,
        user,
        tags,
        data_class=told_class(content.get("metadata")),
    )


def _session(content: dict[str, Any]) -> str:
    session: str = next((content[field] for field in _SESSION if is_filled_text(content.get(field))), "")
    return session[:SESSION_CHARACTERS]


def check_context(request: InferenceRequest, context_tokens: int | None) -> None:
    """Raise ``ContextExceeded`` when more new tokens are asked for than the context can ever hold."""
    for name, asked in request.token_limits:
        if context_tokens is not None and asked > context_tokens:
            raise ContextExceeded(
                f"{name} is {asked}, but the context of {request.model} holds {context_tokens} tokens "
                f"for prompt and answer together; ask for fewer",
                param=name,
            )


def engine_body(
    request: InferenceRequest,
    backend_model: str,
    cache_salt: str,
    cache: Mapping[str, Any] | None = None,
    tokens: bool = False,
    id_: str = "",
) -> bytes:
    """The body for the engine: running usage asked for, engine-only fields dropped, the cache salted.
    ``id_``: what engines are to call the request.
    ``cache``: where a prefill engine says that the KV cache of the prompt lies. ``tokens``: it is to tell
    the tokens, too."""
    ending = request.ending.encode()
    if request.api == "responses":
        ending += members({"request_id": response_id(id_)})
    if tokens:
        ending += _TELL_TOKENS
    if cache is not None:
        ending += members({"kv_transfer_params": cache})
    return _body(request, backend_model, cache_salt, ending)


def response_id(id_: str) -> str:
    """The id of a response to a request that engines are to call so."""
    return f"resp_{id_.removeprefix('req-')}"


def copied_body(request: InferenceRequest, backend_model: str, cache_salt: str) -> bytes:
    """The body of a copy, whose answer is wanted in one piece: of members that come twice the last counts."""
    ending = request.ending.encode()
    if request.stream:
        ending += members({"stream": False, "stream_options": None})
    return _body(request, backend_model, cache_salt, ending)


def prefill_body(request: InferenceRequest, backend_model: str, cache_salt: str) -> bytes:
    """The body for an engine that is to read the prompt and to keep its KV cache."""
    return _body(request, backend_model, cache_salt, PREFILL_MEMBERS)


def _body(request: InferenceRequest, backend_model: str, cache_salt: str, ending: bytes) -> bytes:
    head = _head(backend_model, None if request.task == "embeddings" else cache_salt)
    return b"".join((head, b",", memoryview(request.rest)[1:-1], ending, b"}"))


@lru_cache(maxsize=1024)
def _head(model: str, cache_salt: str | None) -> bytes:
    """What a body for an engine begins with."""
    own = {"model": model} if cache_salt is None else {"model": model, "cache_salt": cache_salt}
    return _json(own)[:-1]


def models_named(raw: bytes) -> list[str] | None:
    """What a body may name as its model, found without reading all of it; None where that cannot be told.

    Members of inner objects are among them. A quote inside a string has a backslash before it, so that no
    text of a prompt is taken for a member.
    """
    found: list[str] = []
    at = raw.find(b'"model"')
    for _ in range(_MODELS_LOOKED_AT):
        if at < 0:
            return found
        match = _MODEL.match(raw, at)
        if match is not None and raw[at - 1 : at] != b"\\":
            try:
                found.append(json.loads(match[1]))
            except ValueError:
                return None
        at = raw.find(b'"model"', at + 1)
    return None


def parse_object(raw: bytes, limits: BodyLimits) -> dict[str, Any]:
    """The JSON object of a body. Raises ``InvalidInput``, and ``TooLarge`` for more values than the limit."""
    check_values(raw, limits.values)
    content = parse_json(raw, code="invalid_json")
    check_nesting(raw, content)
    if not isinstance(content, dict):
        raise InvalidInput("the body must be a JSON object", code="invalid_type")
    return content


def _refuse_what_is_not_counted(task: Task, content: dict[str, Any]) -> None:
    if task == "embeddings":
        formats = "float or base64"  # others of the engine's are binary and tell no usage
        optional(content, "encoding_format", lambda value: value in ("float", "base64"), formats)
    if optional(content, "use_beam_search", is_bool, "true or false", False):
        raise InvalidInput(
            "use_beam_search is not supported: engines do not tell the tokens that it takes",
            "unsupported_value",
            "use_beam_search",
        )


def _count_prompts(content: dict[str, Any], name: str) -> int:
    """How many prompts ``content[name]`` holds: one for a text or a list of token ids."""
    prompt = required(content, name)
    if isinstance(prompt, str):
        return 1
    if not isinstance(prompt, list) or not prompt:
        wrong_type(name, "a string or a list of strings or token ids", prompt)
    if all(is_count(token) for token in prompt):
        return 1
    for position, item in enumerate(prompt):
        if not isinstance(item, str | list | dict):
            wrong_type(f"{name}[{position}]", "a string or a list of token ids", item)
    return len(prompt)


def _check_sequences(task: Task, choices: int, prompts: int, limits: BodyLimits) -> None:
    if task == "embeddings":
        if prompts > limits.inputs:
            _too_many("input", f"{prompts} texts", limits.inputs)
    elif choices > limits.sequences:
        _too_many("n", f"{choices} choices", limits.sequences)
    elif choices * prompts > limits.sequences:
        asked = f"{choices * prompts} answers ({prompts} prompts times {choices} choices)"
        _too_many("prompt", asked, limits.sequences)


def _too_many(name: str, asked: str, limit: int) -> NoReturn:
    raise InvalidInput(
        f"{name}: {asked} in one request, where {limit} are allowed; send several requests",
        "array_too_long",
        name,
    )


def _usage_shown(options: dict[str, Any]) -> UsageShown:
    for name in ("include_usage", "continuous_usage_stats"):
        optional(options, name, is_bool, "true or false", path="stream_options")
    if not options.get("include_usage"):
        return "none"
    return "all" if options.get("continuous_usage_stats") else "final"


def _rest(task: Task, content: dict[str, Any], stream: bool) -> tuple[bytes, int, bytes]:
    """The object for any engine, how much of it is the prompt, and the members for the one that answers."""
    rest = for_any_engine(content)
    if stream:
        asked = content.get("stream_options") or {}
        rest["stream_options"] = {**asked, "include_usage": True, "continuous_usage_stats": True}
    ending = {name: rest.pop(name) for name in DECODE_ONLY if name in rest}
    return *prompt_first(rest, (*_BEFORE_INPUT, _INPUT_FIELD[task])), members(ending)


def for_any_engine(content: dict[str, Any]) -> dict[str, Any]:
    """A body less the model, and less what reaches across tenants inside an engine."""
    rest = {name: value for name, value in content.items() if name not in _ENGINE_ONLY and name != "model"}
    extra = content.get("vllm_xargs")
    if isinstance(extra, dict):
        rest["vllm_xargs"] = {name: value for name, value in extra.items() if name not in _ENGINE_ONLY}
    return rest


def prompt_first(rest: dict[str, Any], names: Sequence[str]) -> tuple[bytes, int]:
    """The JSON object that begins with those members, of which there are some, and how much of it they are.
    They are taken out of ``rest``."""
    prompt = _json({name: rest.pop(name) for name in names if name in rest})[:-1]
    return prompt + (b"," + _json(rest)[1:] if rest else b"}"), len(prompt)


def _json(value: dict[str, Any]) -> bytes:
    return compact(value).encode()

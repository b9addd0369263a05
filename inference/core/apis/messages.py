"""Anthropic's API of messages: a body checked where the gateway needs it, or where engines tell it badly.

What passes here is not all that an engine takes. A field that is not known passes, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import InvalidInput
from inference.core.body import (
    SESSION_CHARACTERS,
    BodyLimits,
    InferenceRequest,
    for_any_engine,
    prompt_first,
)
from inference.core.fields import (
    is_bool,
    is_filled_text,
    is_object,
    is_positive,
    is_text,
    optional,
    required,
    wrong_type,
)
from inference.core.media import check_url
from inference.core.messages import MAX_MESSAGES
from inference.core.options import MAX_STOPS, check_references, check_texts
from inference.core.reported import told_class, told_for_reports

_PROMPT = ("chat_template_kwargs", "output_config", "thinking", "tool_choice", "tools", "system", "messages")
"""What the prompt is made of, the messages last: a longer conversation begins like a shorter one."""
_ROLES = ("user", "assistant", "system")
_BLOCKS: Mapping[str, tuple[str, str] | None] = {
    "text": ("text", "text"),
    "image": ("source", "object"),
    "tool_use": ("name", "text"),
    "tool_result": ("tool_use_id", "text"),
    "tool_reference": None,
    "thinking": ("thinking", "text"),
    "redacted_thinking": None,
    "tool_addition": ("tool", "object"),
    "tool_removal": ("tool", "object"),
}
"""Blocks of content that engines read -> the field that each needs, and what that is."""
_CHOICES = ("auto", "any", "tool", "none")
_THINKING = ("enabled", "disabled", "adaptive")
_LEAST_THINKING_TOKENS = 1024
_CONTENT = "a string or a list of content blocks"


def parse_messages(content: dict[str, Any], limits: BodyLimits) -> InferenceRequest:
    """Check a body. Raises ``InvalidInput`` naming the field by its path."""
    model = _model(content)
    stream = optional(content, "stream", is_bool, "true or false", False)
    most = required(content, "max_tokens")
    if not is_positive(most):
        wrong_type("max_tokens", "a whole number of at least 1", most)
    _check_stops(content.get("stop_sequences"))
    _check_thinking(content, most)
    _check_prompt(content, limits)
    session, user, tags = _told_of_client(content)
    rest, prompt_bytes = prompt_first(for_any_engine(content), _PROMPT)
    return InferenceRequest(
        task="chat",
        model=model,
        stream=stream,
        usage_shown="all",
        choices_per_prompt=1,
        prompts=1,
        token_limits=(("max_tokens", most),),
        rest=rest,
        one_leg="api",
        prompt_bytes=prompt_bytes,
        session=session,
        user=user,
        tags=tags,
        data_class=told_class(content.get("metadata")),
        other_api="messages",
    )


def parse_count_tokens(content: dict[str, Any], limits: BodyLimits) -> InferenceRequest:
    """Check a body whose tokens are to be counted. Raises ``InvalidInput`` naming the field by its path."""
    model = _model(content)
    _check_prompt(content, limits)
    rest, _ = prompt_first(for_any_engine(content), _PROMPT)
    return InferenceRequest(
        task="chat",
        model=model,
        stream=False,
        usage_shown="none",
        choices_per_prompt=1,
        prompts=1,
        token_limits=(),
        rest=rest,
        one_leg="api",
        other_api="count_tokens",
    )


def _model(content: Mapping[str, Any]) -> str:
    model = required(content, "model")
    if not is_filled_text(model):
        wrong_type("model", "a non-empty string", model)
    return str(model)


def _told_of_client(content: Mapping[str, Any]) -> tuple[str, str, Mapping[str, str]]:
    """(session, user, tags): what a client says of its request, in the field that the API has for it."""
    metadata = optional(content, "metadata", is_object, "an object", {})
    user = optional(metadata, "user_id", is_text, "a string", "", "metadata")
    tags = {name: value for name, value in metadata.items() if name != "user_id"}
    return user[:SESSION_CHARACTERS], *told_for_reports({"user": user, "metadata": tags or None})


def _check_stops(stops: Any) -> None:
    if stops is None:
        return
    check_texts(stops, "stop_sequences")
    if len(stops) > MAX_STOPS:
        message = f"stop_sequences: at most {MAX_STOPS} sequences, not {len(stops)}"
        raise InvalidInput(message, "array_too_long", "stop_sequences")


def _check_thinking(content: Mapping[str, Any], most: int) -> None:
    thinking = optional(content, "thinking", is_object, "an object")
    if thinking is None:
        return
    if _one_of(thinking, "type", _THINKING, "thinking") != "enabled":
        return
    budget = required(thinking, "budget_tokens", "thinking")
    if not is_positive(budget) or not _LEAST_THINKING_TOKENS <= budget < most:
        what = f"a whole number of at least {_LEAST_THINKING_TOKENS} and less than max_tokens"
        wrong_type("thinking.budget_tokens", what, budget)


def _check_prompt(content: Mapping[str, Any], limits: BodyLimits) -> None:
    _check_tools(content)
    output = optional(content, "output_config", is_object, "an object", {})
    wanted = optional(output, "format", is_object, "an object", {}, "output_config")
    schema = optional(wanted, "schema", is_object, "a JSON schema", path="output_config.format")
    check_references(schema, "output_config.format.schema")
    system = content.get("system")
    if system is not None and not is_text(system):
        _check_blocks(system, "system", limits.media_hosts)
    messages = required(content, "messages")
    if not isinstance(messages, list) or not messages:
        wrong_type("messages", "a list of at least one message", messages)
    if len(messages) > MAX_MESSAGES:
        message = f"messages: at most {MAX_MESSAGES}, not {len(messages)}"
        raise InvalidInput(message, "too_many_messages", "messages")
    for position, message in enumerate(messages):
        path = f"messages[{position}]"
        if not is_object(message):
            wrong_type(path, "an object", message)
        _one_of(message, "role", _ROLES, path)
        said = required(message, "content", path)
        if not is_text(said):
            _check_blocks(said, f"{path}.content", limits.media_hosts)


def _check_blocks(blocks: Any, path: str, hosts: Sequence[str]) -> None:
    if not isinstance(blocks, list) or not blocks:
        wrong_type(path, _CONTENT, blocks)
    for position, block in enumerate(blocks):
        _check_block(block, f"{path}[{position}]", hosts)


def _check_block(block: Any, path: str, hosts: Sequence[str]) -> None:
    if not is_object(block):
        wrong_type(path, "an object with a type, such as text", block)
    kind = _one_of(block, "type", tuple(_BLOCKS), path)
    needed = _BLOCKS[kind]
    if needed is not None:
        name, what = needed
        value = required(block, name, path)
        if not (is_text(value) if what == "text" else is_object(value)):
            wrong_type(f"{path}.{name}", "a string" if what == "text" else "an object", value)
    if kind == "image":
        _check_source(block["source"], f"{path}.source", hosts)
    elif kind == "tool_use":
        optional(block, "input", is_object, "an object", path=path)
    elif kind == "tool_result":
        result = block.get("content")
        if result is not None and not is_text(result):
            if not isinstance(result, list):
                wrong_type(f"{path}.content", _CONTENT, result)
            for position, part in enumerate(result):
                _check_block(part, f"{path}.content[{position}]", hosts)


def _check_source(source: Mapping[str, Any], path: str, hosts: Sequence[str]) -> None:
    """An image's: what it is itself, or where an engine may fetch it."""
    kind = source.get("type", "base64")
    if kind == "url":
        url = required(source, "url", path)
        if not is_filled_text(url):
            wrong_type(f"{path}.url", "a non-empty string", url)
        check_url(url, hosts, f"{path}.url")
    elif kind == "base64":
        for name in ("media_type", "data"):
            if not is_filled_text(required(source, name, path)):
                wrong_type(f"{path}.{name}", "a non-empty string", source[name])
    else:
        wrong_type(f"{path}.type", "base64 or url", kind)


def _check_tools(content: Mapping[str, Any]) -> None:
    tools = optional(content, "tools", lambda value: isinstance(value, list), "a list of tools", [])
    for position, tool in enumerate(tools):
        path = f"tools[{position}]"
        if not is_object(tool):
            wrong_type(path, "an object", tool)
        if tool.get("type") not in (None, "custom"):
            message = (
                f"{path}.type must be custom: no tools are run here but those that the client runs itself"
            )
            raise InvalidInput(message, "unsupported_value", f"{path}.type")
        if not is_filled_text(required(tool, "name", path)):
            wrong_type(f"{path}.name", "a non-empty string", tool["name"])
        schema = required(tool, "input_schema", path)
        if not is_object(schema):
            wrong_type(f"{path}.input_schema", "a JSON schema", schema)
        check_references(schema, f"{path}.input_schema")
    choice = optional(content, "tool_choice", is_object, "an object with a type")
    if choice is None or _one_of(choice, "type", _CHOICES, "tool_choice") != "tool":
        return
    if not is_filled_text(required(choice, "name", "tool_choice")):
        wrong_type("tool_choice.name", "a non-empty string", choice["name"])


def _one_of(content: Mapping[str, Any], name: str, known: Sequence[str], path: str) -> str:
    """The field's value. Raises ``InvalidInput`` where it is none of those that are known."""
    value = required(content, name, path)
    if not is_text(value) or value not in known:
        wrong_type(f"{path}.{name}", f"one of {', '.join(known)}", value)
    return str(value)

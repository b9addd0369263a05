"""OpenAI's API of responses, without stored state: a body checked where the gateway needs it, or where
engines tell it badly.

An engine's memory is one of many and gone when it ends, so what rests on a stored response is refused here:
a client sends the whole conversation.
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
from inference.core.media import check_urls
from inference.core.messages import MAX_MESSAGES
from inference.core.options import check_references, check_stop, check_structured
from inference.core.reported import told_class, told_for_reports

_PROMPT = ("chat_template_kwargs", "reasoning", "text", "tool_choice", "tools", "instructions", "input")
"""What the prompt is made of, the input last: a longer conversation begins like a shorter one."""
_SESSION = ("prompt_cache_key", "user", "safety_identifier")
_STORED: Mapping[str, str] = {
    "previous_response_id": "names a stored response",
    "conversation": "names a stored conversation",
    "prompt": "names a stored prompt",
    "previous_input_messages": "holds messages of an engine's own form",
    "background": "asks for a response that is fetched later",
    "store": "asks for a response that is kept",
    "enable_response_messages": "asks for messages of an engine's own form",
}
"""Fields that are refused unless they are null or false -> what they do."""
_WHOLE = "responses are not stored here; send the whole conversation as input, with store: false"
_ROLES = ("user", "assistant", "system", "developer")
_ITEMS: Mapping[str, tuple[str, ...]] = {
    "message": (),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id",),
    "custom_tool_call": ("call_id", "name"),
    "custom_tool_call_output": ("call_id",),
    "reasoning": (),
}
"""Items of the input that engines read -> the texts that each needs."""
_PARTS = ("input_text", "input_image", "input_audio", "output_text", "refusal")
_TOOLS = ("function", "custom", "namespace")
_FORMATS = ("text", "json_object", "json_schema")


def parse_responses(content: dict[str, Any], limits: BodyLimits) -> InferenceRequest:
    """Check a body. Raises ``InvalidInput`` naming the field by its path."""
    model = required(content, "model")
    if not is_filled_text(model):
        wrong_type("model", "a non-empty string", model)
    stream = optional(content, "stream", is_bool, "true or false", False)
    for name, does in _STORED.items():
        if content.get(name) not in (None, False):
            raise InvalidInput(f"{name} {does}, but {_WHOLE}", "unsupported_value", name)
    most = optional(content, "max_output_tokens", is_positive, "a whole number of at least 1")
    check_stop(content.get("stop"))
    check_structured(optional(content, "structured_outputs", is_object, "an object"))
    _check_format(content)
    _check_tools(content)
    optional(content, "instructions", is_text, "a string")
    _check_input(required(content, "input"), limits.media_hosts)
    session = next((content[name] for name in _SESSION if is_filled_text(content.get(name))), "")
    user, tags = told_for_reports(content)
    rest, prompt_bytes = prompt_first(for_any_engine(content), _PROMPT)
    return InferenceRequest(
        task="chat",
        model=model,
        stream=stream,
        usage_shown="all",
        choices_per_prompt=1,
        prompts=1,
        token_limits=(("max_output_tokens", most),) if most is not None else (),
        rest=rest,
        one_leg="api",
        prompt_bytes=prompt_bytes,
        session=session[:SESSION_CHARACTERS],
        user=user,
        tags=tags,
        data_class=told_class(content.get("metadata")),
        other_api="responses",
    )


def _check_format(content: Mapping[str, Any]) -> None:
    text = optional(content, "text", is_object, "an object", {})
    wanted = optional(text, "format", is_object, "an object with a type", path="text")
    if wanted is None:
        return
    kind = required(wanted, "type", "text.format")
    if kind not in _FORMATS:
        wrong_type("text.format.type", f"one of {', '.join(_FORMATS)}", kind)
    schema = optional(wanted, "schema", is_object, "a JSON schema", path="text.format")
    check_references(schema, "text.format.schema")


def _check_tools(content: Mapping[str, Any]) -> None:
    tools = optional(content, "tools", lambda value: isinstance(value, list), "a list of tools", [])
    for position, tool in enumerate(tools):
        path = f"tools[{position}]"
        if not is_object(tool):
            wrong_type(path, "an object", tool)
        kind = required(tool, "type", path)
        if kind not in _TOOLS:
            message = f"{path}.type must be one of {', '.join(_TOOLS)}: the client runs its tools itself"
            raise InvalidInput(message, "unsupported_value", f"{path}.type")
        if not is_filled_text(required(tool, "name", path)):
            wrong_type(f"{path}.name", "a non-empty string", tool["name"])
        schema = optional(tool, "parameters", is_object, "a JSON schema", path=path)
        check_references(schema, f"{path}.parameters")
    choice = content.get("tool_choice")
    if choice is not None and not isinstance(choice, str | dict):
        wrong_type("tool_choice", "none, auto, required or an object that names a tool", choice)


def _check_input(value: Any, hosts: Sequence[str]) -> None:
    if is_text(value):
        return
    if not isinstance(value, list) or not value:
        wrong_type("input", "a string or a list of at least one item", value)
    if len(value) > MAX_MESSAGES:
        message = f"input: at most {MAX_MESSAGES} items, not {len(value)}"
        raise InvalidInput(message, "too_many_messages", "input")
    for position, item in enumerate(value):
        path = f"input[{position}]"
        if not is_object(item):
            wrong_type(path, "an object", item)
        _check_item(item, path)
        check_urls(item, path, hosts)


def _check_item(item: Mapping[str, Any], path: str) -> None:
    kind = item.get("type") or "message"
    if not is_text(kind) or kind not in _ITEMS:
        wrong_type(f"{path}.type", f"one of {', '.join(_ITEMS)}", kind)
    for name in _ITEMS[kind]:
        if not is_text(required(item, name, path)):
            wrong_type(f"{path}.{name}", "a string", item[name])
    if kind == "message":
        role = required(item, "role", path)
        if role not in _ROLES:
            wrong_type(f"{path}.role", f"one of {', '.join(_ROLES)}", role)
        if role == "assistant" and not is_text(item.get("content")) and item.get("type") is None:
            wrong_type(f"{path}.type", "message where an assistant's content is a list of parts", None)
        _check_parts(required(item, "content", path), f"{path}.content")
    elif kind == "reasoning":
        if not isinstance(required(item, "summary", path), list):
            wrong_type(f"{path}.summary", "a list of texts", item["summary"])
    elif kind.endswith("_output"):
        _check_parts(required(item, "output", path), f"{path}.output")


def _check_parts(value: Any, path: str) -> None:
    if is_text(value):
        return
    if not isinstance(value, list) or not value:
        wrong_type(path, "a string or a list of content parts", value)
    for position, part in enumerate(value):
        where = f"{path}[{position}]"
        if not is_object(part):
            wrong_type(where, "an object with a type, such as input_text", part)
        kind = required(part, "type", where)
        if kind != "input_file" and kind not in _PARTS:
            wrong_type(f"{where}.type", f"one of {', '.join(_PARTS)}", kind)
        if kind.endswith("_text") and not is_text(part.get("text")):
            wrong_type(f"{where}.text", "a string", part.get("text"))
        if kind == "input_file" or part.get("file_id") is not None:
            message = f"{where}: an engine reads no stored file; send a text, or an image as a data: URL"
            raise InvalidInput(message, "unsupported_value", where)

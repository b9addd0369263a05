"""Options of a request whose mistakes engines tell badly or not at all: stops, tools, structured output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.errors import InvalidInput
from common.vocabulary import shortened
from inference.core.fields import is_filled_text, is_object, is_text, optional, required, wrong_type

MAX_STOPS = 4
_FORMATS = ("text", "json_object", "json_schema", "structural_tag")
_CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_NO_SCHEMAS = frozenset({"const", "default", "enum", "examples"})
_RULE = re.compile(r"(?<![\w-])([\w-]++)[ \t]*+::=")
"""Looks at each character once, however long the words are."""


def check_options(content: Mapping[str, Any]) -> None:
    """Raises ``InvalidInput`` naming the field."""
    check_stop(content.get("stop"))
    check_texts(content.get("bad_words"), "bad_words")
    _check_tools(content)
    _check_format(optional(content, "response_format", is_object, "an object"))
    check_structured(optional(content, "structured_outputs", is_object, "an object"))


def check_stop(stop: Any) -> None:
    if stop is None or is_filled_text(stop):
        return
    if not isinstance(stop, list):
        wrong_type("stop", f"a non-empty string or a list of at most {MAX_STOPS}", stop)
    if len(stop) > MAX_STOPS:
        raise InvalidInput(f"stop: at most {MAX_STOPS} sequences, not {len(stop)}", "array_too_long", "stop")
    check_texts(stop, "stop")


def check_texts(values: Any, path: str) -> None:
    """Raises ``InvalidInput`` unless it is a list of strings that are not empty, or null."""
    if values is None:
        return
    if not isinstance(values, list):
        wrong_type(path, "a list of strings", values)
    for position, value in enumerate(values):
        if not is_filled_text(value):
            wrong_type(f"{path}[{position}]", "a non-empty string", value)


def _check_tools(content: Mapping[str, Any]) -> None:
    tools = optional(content, "tools", lambda value: isinstance(value, list), "a list of tools", [])
    for position, tool in enumerate(tools):
        path = f"tools[{position}]"
        if not isinstance(tool, dict):
            wrong_type(path, "an object", tool)
        if tool.get("type", "function") != "function":
            continue
        function = required(tool, "function", path)
        if not isinstance(function, dict):
            wrong_type(f"{path}.function", "an object", function)
        name = required(function, "name", f"{path}.function")
        if not is_filled_text(name):
            wrong_type(f"{path}.function.name", "a non-empty string", name)
        parameters = optional(function, "parameters", is_object, "a JSON schema", path=f"{path}.function")
        check_references(parameters, f"{path}.function.parameters")
    choice = content.get("tool_choice")
    if choice is not None and not isinstance(choice, str | dict):
        wrong_type("tool_choice", "none, auto, required or an object that names a tool", choice)


def _check_format(wanted: Mapping[str, Any] | None) -> None:
    if wanted is None:
        return
    kind = required(wanted, "type", "response_format")
    if kind not in _FORMATS:
        wrong_type("response_format.type", f"one of {', '.join(_FORMATS)}", kind)
    if kind != "json_schema":
        return
    path = "response_format.json_schema"
    described = required(wanted, "json_schema", "response_format")
    if not isinstance(described, dict):
        wrong_type(path, "an object with name and schema", described)
    optional(described, "name", is_text, "a string", path=path)
    schema = optional(described, "schema", is_object, "a JSON schema", path=path)
    check_references(schema, f"{path}.schema")


def check_structured(wanted: Mapping[str, Any] | None) -> None:
    if wanted is None:
        return
    given = [name for name in _CONSTRAINTS if wanted.get(name) is not None]
    if len(given) != 1:
        raise InvalidInput(
            f"structured_outputs needs exactly one of {', '.join(_CONSTRAINTS)}",
            "invalid_value",
            "structured_outputs",
        )
    path = f"structured_outputs.{given[0]}"
    value = wanted[given[0]]
    if given[0] == "json":
        if not isinstance(value, dict | str):
            wrong_type(path, "a JSON schema", value)
        check_references(value, path)
    elif given[0] in ("regex", "grammar", "structural_tag"):
        if not is_filled_text(value):
            wrong_type(path, "a non-empty string", value)
        if given[0] == "grammar":
            _check_grammar(value, path)
    elif given[0] == "choice":
        if value == []:
            wrong_type(path, "a list of at least one string", value)
        check_texts(value, path)


def _check_grammar(grammar: str, path: str) -> None:
    """A grammar in EBNF has no rule without a body."""
    rules = list(_RULE.finditer(grammar))
    for number, rule in enumerate(rules, start=1):
        end = rules[number].start() if number < len(rules) else len(grammar)
        if not grammar[rule.end() : end].strip():
            raise InvalidInput(f"{path}: the rule {rule[1]} has nothing after ::=", "invalid_value", path)


def check_references(schema: Any, path: str) -> None:
    """Raises ``InvalidInput`` when a ``$ref`` of a JSON schema leads to itself or to nothing.

    References to other documents and to anchors are not followed.
    """
    sound: set[int] = set()
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            _follow(schema, node, path, sound)
            pending.extend(value for key, value in node.items() if key not in _NO_SCHEMAS)
        elif isinstance(node, list):
            pending.extend(node)


def _follow(schema: Any, node: Any, path: str, sound: set[int]) -> None:
    """Go where the node refers to, to the end; what led there is ``sound`` and not gone again."""
    seen: set[int] = set()
    while isinstance(node, dict) and id(node) not in sound:
        reference = node.get("$ref")
        if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
            break
        if id(node) in seen:
            raise InvalidInput(f"{path}: {_named(reference)} leads to itself", "invalid_value", path)
        seen.add(id(node))
        node = _target(schema, reference)
        if node is None:
            raise InvalidInput(f"{path}: {_named(reference)} leads to nothing", "invalid_value", path)
    sound |= seen


def _named(reference: str) -> str:
    return f"the reference {shortened(reference, 80)}"


def _target(schema: Any, reference: str) -> Any:
    at = schema
    for word in reference.split("/")[1:]:
        key = word.replace("~1", "/").replace("~0", "~")
        if isinstance(at, dict):
            at = at.get(key)
        elif isinstance(at, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(at):
            at = at[int(key[:9])]
        else:
            return None
    return at

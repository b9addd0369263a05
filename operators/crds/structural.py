"""A JSON schema of pydantic as the structural schema that Kubernetes takes.

Kubernetes knows no ``$ref``, no ``const``, no choice between types, no rules about names of properties, and
no number as ``exclusiveMinimum``; its patterns are of RE2. What it cannot say is left to control, which
checks everything once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Schema = dict[str, Any]

KEPT = (
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
)
ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}
"""Where several types are possible."""
BOUNDLESS = 1e300
"""A limit beyond this is none."""
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")


def structural(schema: Mapping[str, Any]) -> Schema:
    """The schema with everything in its place. Raises ``ValueError`` where it refers to itself."""
    return _flat(schema, schema.get("$defs", {}), ())


def _flat(schema: Mapping[str, Any], defs: Mapping[str, Any], path: tuple[str, ...]) -> Schema:
    schema = _resolved(schema, defs, path)
    name = schema.get("$name")
    path = (*path, name) if name else path
    flat: Schema = {}
    if "description" in schema:
        flat["description"] = plain(schema["description"])
    choices = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    if len(choices) > 1:
        return flat | ANYTHING | _default(schema)
    if choices:
        return (
            flat
            | {k: v for k, v in _flat(choices[0], defs, path).items() if k not in flat}
            | _default(schema)
        )
    flat |= {key: schema[key] for key in KEPT if key in schema and key != "default"}
    flat |= _default(schema) | _limits(schema)
    if "const" in schema:
        flat["enum"] = [schema["const"]]
    if "pattern" in schema:
        flat["pattern"] = re2(schema["pattern"])
    if "items" in schema:
        flat["items"] = _flat(schema["items"], defs, path)
    if "properties" in schema:
        flat["properties"] = {key: _flat(part, defs, path) for key, part in schema["properties"].items()}
    elif flat.get("type") == "object":
        flat["additionalProperties"] = _flat(_values(schema), defs, path)
    return flat if "type" in flat else flat | ANYTHING


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """The schema without a reference; what stands beside the reference wins."""
    parts = schema.get("allOf", ())
    reference = schema.get("$ref") or (parts[0].get("$ref") if len(parts) == 1 else None)
    if reference is None:
        return schema
    name = reference.rpartition("/")[2]
    if name in path:
        raise ValueError(f"{name} refers to itself, which Kubernetes does not take")
    return {**defs[name], **{k: v for k, v in schema.items() if k not in ("$ref", "allOf")}, "$name": name}


def _values(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the values of a mapping with names of the writer's choice are."""
    patterns: Mapping[str, Mapping[str, Any]] = schema.get("patternProperties", {})
    values = next(iter(patterns.values()), schema.get("additionalProperties"))
    return values if isinstance(values, Mapping) else {}


def _default(schema: Mapping[str, Any]) -> Schema:
    """An empty text means the same as none, and old servers take it for null."""
    value = schema.get("default")
    return {} if value is None or value == "" else {"default": value}


def _limits(schema: Mapping[str, Any]) -> Schema:
    limits: Schema = {}
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            limits |= {inclusive: schema[exclusive], exclusive: True}
    whole = {"integer": {"format": "int64"}, "number": {"format": "double"}}
    return limits | whole.get(str(schema.get("type")), {})


def without_boundless(schema: Schema) -> Schema:
    """The schema without limits that no number reaches."""
    return _without(
        schema, lambda key, value: key in ("minimum", "maximum") and abs(float(str(value))) >= BOUNDLESS
    )


def without_defaults(schema: Schema) -> Schema:
    """The schema for documents that say only what somebody wrote."""
    return _without(schema, lambda key, _: key == "default")


def _without(schema: Schema, drops: Callable[[str, object], bool]) -> Schema:
    found = {key: value for key, value in schema.items() if not drops(key, value)}
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = _without(found[key], drops)
    if "properties" in found:
        found["properties"] = {name: _without(part, drops) for name, part in found["properties"].items()}
    return found


def re2(pattern: str) -> str:
    """A pattern of Python as RE2 writes it, in ASCII."""
    pattern = _UNICODE.sub(lambda found: rf"\x{{{found[1]}}}", pattern)
    return "".join(char if char.isascii() else rf"\x{{{ord(char):x}}}" for char in pattern)


def plain(text: str) -> str:
    """A docstring as one paragraph without marks."""
    return " ".join(text.replace("``", "").split())

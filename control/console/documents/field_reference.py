"""What may be written in a resource, from the schema of its kind: for `explain` and for misspelt fields."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from common.errors import NotFound
from common.kind_names import API_VERSION, KIND_NAMES
from control.console.documents.documents import SERVER_SET
from control.console.documents.kind_schemas import kind_schemas

Schema = Mapping[str, Any]
_INDEX = re.compile(r"\[[^\]]*\]")
_WIDTH = 96
_DEEPEST = 6
_COMBINING = ("$ref", "allOf", "anyOf", "oneOf")
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} entries",
    "maxProperties": "at most {} entries",
}


@dataclass(frozen=True)
class Field:
    """A field of a kind. ``path`` begins with ``spec`` or ``status``; that of a list's elements ends in
    ``[]``. ``facts``: limits and the default, in words."""

    path: str
    type: str
    required: bool
    said: str
    facts: tuple[str, ...]


def all_fields(kind: str) -> list[Field]:
    """Every field below spec and status, in their order; each is followed by those within it."""
    return [
        field
        for top in ("spec", "status")
        if top in _root(kind)["properties"]
        for field in _walk(kind, _at(kind, top), top, depth=0)
    ]


def _walk(kind: str, schema: Schema, path: str, depth: int) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        inner = _resolved(kind, field)
        said = " ".join(str(field.get("description") or inner.get("description", "")).split())
        here = f"{path}.{name}"
        yield Field(here, _type(kind, inner), name in required, said, tuple(_facts(inner)))
        element = _element(kind, inner)
        listed = "[]" if isinstance(inner.get("items"), Mapping) else ""
        if depth < _DEEPEST:
            yield from _walk(kind, element, here + listed, depth + 1)


def example_of(kind: str) -> str:
    """A document with what is required, as YAML."""
    return _example(kind, "")


def describe_field(kind: str, path: str) -> str:
    """A page about a kind or a field of it. Raises ``NotFound`` with the nearest name."""
    schema = _at(kind, path)
    title = f"{kind}.{path}" if path else kind
    lines = [title, f"  type: {_type(kind, schema)}"]
    lines += [f"  {line}" for line in _facts(schema)]
    said = " ".join(str(schema.get("description", "")).split())
    lines += textwrap.wrap(said, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    inner = _element(kind, schema)
    fields = inner.get("properties", {})
    if fields:
        lines += ["", "fields:", *_fields(kind, inner)]
    if path.startswith("status"):
        return "\n".join([*lines, "", "written by controllers only"])
    shown = _example(kind, path).splitlines()
    lines += ["", "where it stands (others may have to go with it):", *(f"  {line}" for line in shown)]
    return "\n".join(lines)


def nearest_field(kind: str, path: str) -> str:
    """The field that was meant by the last part of ``spec.dispalyName``; empty where none is near."""
    above, _, last = _INDEX.sub("", path).rpartition(".")
    try:
        known = _element(kind, _at(kind, above)).get("properties", {})
    except NotFound:
        return ""
    return next(iter(get_close_matches(last, known, n=1)), "")


@cache
def _root(kind: str) -> Schema:
    return kind_schemas()[kind]


def _at(kind: str, path: str) -> Schema:
    schema, walked = _resolved(kind, _root(kind)), kind
    for name in filter(None, _INDEX.sub("", path).split(".")):
        inner = _element(kind, schema)
        fields = inner.get("properties", {})
        if name not in fields:
            near = get_close_matches(name, fields, n=1)
            meant = f"did you mean {near[0]}?" if near else f"fields: {', '.join(fields) or 'none'}"
            raise NotFound(f"{walked} has no field {name}; {meant}", param="NAME")
        schema, walked = _resolved(kind, fields[name]), f"{walked}.{name}"
    return schema


def _resolved(kind: str, schema: Schema) -> Schema:
    """Without references and without the null of what may be unset; what is said beside them stays."""
    for _ in range(20):
        beside = {
            key: value for key, value in schema.items() if key not in ("$ref", "allOf", "anyOf", "oneOf")
        }
        options = [one for one in schema.get("anyOf", schema.get("oneOf", ())) if one.get("type") != "null"]
        if "$ref" in schema:
            schema = {**_root(kind)["$defs"][schema["$ref"].rpartition("/")[2]], **beside}
        elif "allOf" in schema:
            schema = {**schema["allOf"][0], **beside}
        elif len(options) == 1:
            schema = {**options[0], **beside}
        else:
            return schema
    return schema


def _element(kind: str, schema: Schema) -> Schema:
    """Of a list, what it is a list of; of what may be several things, the first with fields."""
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, Mapping):
            return _resolved(kind, inner)
    options = [_resolved(kind, one) for one in schema.get("anyOf", schema.get("oneOf", ()))]
    return next((one for one in options if one.get("properties")), schema)


def _type(kind: str, schema: Schema) -> str:
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_type(kind, _resolved(kind, schema.get('items', {})))}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"mapping of {_type(kind, _resolved(kind, schema['additionalProperties']))}"
    options = [_type(kind, _resolved(kind, one)) for one in schema.get("anyOf", schema.get("oneOf", ()))]
    return " or ".join(dict.fromkeys(options)) or str(schema.get("type", "any value"))


def _facts(schema: Schema) -> list[str]:
    facts = [said.format(_number(schema[name])) for name, said in _LIMITS.items() if name in schema]
    if schema.get("default") not in (None, "", [], {}):
        facts.append(f"default: {schema['default']}")
    return facts


def _number(limit: float) -> str:
    return f"{int(limit):,}" if limit == int(limit) else f"{limit:g}"


def _fields(kind: str, schema: Schema) -> list[str]:
    required = schema.get("required", ())
    lines = []
    for name, field in schema["properties"].items():
        inner = _resolved(kind, field)
        must = " (required)" if name in required else ""
        lines.append(f"  {name} <{_type(kind, inner)}>{must}")
        said = " ".join(str(field.get("description") or inner.get("description", "")).split())
        lines += textwrap.wrap(said, _WIDTH, initial_indent="      ", subsequent_indent="      ")
    return lines


def _example(kind: str, path: str) -> str:
    """A document with what is required, and with the field."""
    import yaml

    document = _sample(kind, _resolved(kind, _root(kind)), depth=0)
    metadata = {"name": "example", **({"project": "acme"} if _has_project(kind) else {})}
    document = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": metadata,
        "spec": document.get("spec", {}),
    }
    place: Any = document
    schema = _resolved(kind, _root(kind))
    for name in filter(None, _INDEX.sub("", path).split(".")):
        schema = _resolved(kind, _element(kind, schema)["properties"][name])
        place = place[0] if isinstance(place, list) else place
        if place.get(name) in (None, []):
            place[name] = _filled(kind, schema)
        place = place[name]
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=_WIDTH))


def _has_project(kind: str) -> bool:
    return any(one.kind == kind and one.scope == "project" for one in KIND_NAMES)


def _filled(kind: str, schema: Schema) -> Any:
    """A value that is not empty, so that a field may be put into it."""
    value = _sample(kind, schema, depth=0)
    if value == [] and isinstance(schema.get("items"), Mapping):
        return [_sample(kind, _resolved(kind, schema["items"]), depth=1)]
    return value


def _sample(kind: str, schema: Schema, depth: int) -> Any:
    """A value of that schema: of a mapping what is required, of a list nothing unless it must have some."""
    if schema.get("default") not in (None, "", [], {}):
        return schema["default"]
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    fields, type_ = schema.get("properties"), schema.get("type")
    if fields is not None and depth < 6:
        required = [name for name in schema.get("required", ()) if name not in SERVER_SET]
        return {name: _sample(kind, _resolved(kind, fields[name]), depth + 1) for name in required}
    if type_ == "array":
        count = schema.get("minItems", 0)
        return [_sample(kind, _resolved(kind, schema["items"]), depth + 1)] * count
    if type_ in ("integer", "number"):
        return max(1, schema.get("minimum", 1))
    options = schema.get("anyOf", schema.get("oneOf", ()))
    if options:
        return _sample(kind, _resolved(kind, options[0]), depth + 1)
    return {"string": "example", "boolean": True, "object": {}}.get(str(type_))

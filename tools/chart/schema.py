"""values.schema.json: every value, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from tools.chart.annotated import Value
from tools.chart.definitions import definitions

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def schema_of(root: Value) -> dict[str, Any]:
    """The whole schema, in which unknown values are refused at every depth."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart computility",
        **_part(root),
        "$defs": definitions(),
    }


def as_text(schema: dict[str, Any]) -> str:
    """As the file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _part(value: Value) -> dict[str, Any]:
    if value.children:
        properties = {child.path[-1]: _part(child) for child in value.children}
        return {"type": "object", "additionalProperties": False, "properties": properties}
    told = {"description": value.description}
    if "$ref" in value.schema or "enum" in value.schema:
        return told | value.schema
    return {"type": _TYPES[type(value.default)]} | told | value.schema

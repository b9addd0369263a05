"""Whether a JSON value holds to a schema, by the keywords that structured output uses. Others are taken as
held, and so is what would take too long: a check that cannot be made fails no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_STEPS = 20_000
"""Of one check: whoever writes a schema can have it refer to itself in many ways."""
_MAX_DEPTH = 100
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
}


def holds(value: Any, schema: Any) -> bool:
    """Whether ``value`` is as ``schema`` says."""
    return _Check(schema).holds(value, schema, 0)


@dataclass
class _Check:
    """``root`` is where references begin."""

    root: Any
    steps: int = 0

    def holds(self, value: Any, schema: Any, depth: int) -> bool:
        self.steps += 1
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or self.steps > _STEPS:
            return schema is not False
        target = schema.get("$ref")
        if isinstance(target, str) and not self.holds(value, _at(self.root, target), depth + 1):
            return False
        return (
            _is_of_type(value, schema.get("type"))
            and ("const" not in schema or value == schema["const"])
            and (not isinstance(schema.get("enum"), list) or value in schema["enum"])
            and self._combines(value, schema, depth)
            and self._parts_hold(value, schema, depth)
        )

    def _combines(self, value: Any, schema: dict[str, Any], depth: int) -> bool:
        for name, rule in (("allOf", all), ("anyOf", any), ("oneOf", any)):
            parts = schema.get(name)
            if isinstance(parts, list) and not rule(self.holds(value, part, depth + 1) for part in parts):
                return False
        return True

    def _parts_hold(self, value: Any, schema: dict[str, Any], depth: int) -> bool:
        if isinstance(value, list):
            return all(self.holds(one, schema.get("items"), depth + 1) for one in value)
        if not isinstance(value, dict):
            return True
        told, required = schema.get("properties"), schema.get("required")
        properties = told if isinstance(told, dict) else {}
        if isinstance(required, list) and any(one not in value for one in required if isinstance(one, str)):
            return False
        more = schema.get("additionalProperties")
        if more is False and any(name not in properties for name in value):
            return False
        return all(self.holds(one, properties.get(name, more), depth + 1) for name, one in value.items())


def _is_of_type(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return any(_is_of_type(value, one) for one in kind)
    if kind in ("number", "integer"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return kind == "number" or isinstance(value, int) or value.is_integer()
    expected = _TYPES.get(kind) if isinstance(kind, str) else None
    return expected is None or isinstance(value, expected)


def _at(root: Any, reference: str) -> Any:
    """What a reference within the schema names; None, which everything holds to, for any other."""
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step) if isinstance(found, dict) else None
    return found if reference.startswith("#") else None

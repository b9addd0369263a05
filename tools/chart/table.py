"""The table of values in the chart's README, between two marks."""

from __future__ import annotations

import json
from typing import Any

from tools.chart.annotated import Value

BEGIN, END = "<!-- values: made by `make chart-docs` -->", "<!-- end of values -->"


def with_table(readme: str, root: Value, pool: dict[str, Any]) -> str:
    """The README with the tables of today; ``pool``: the schema of one node pool. Raises ``ValueError``
    where a mark is missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks the line {END if begin else BEGIN}")
    return f"{before}{BEGIN}\n\n{_tables(root)}\n{_pool_table(pool)}\n{END}{after}"


def _tables(root: Value) -> str:
    parts = []
    plain = [child for child in root.children if not child.children]
    if plain:
        parts.append(_table("General", plain))
    parts += [_table(f"`{child.name}`", list(child.leaves())) for child in root.children if child.children]
    return "\n".join(parts)


def _table(title: str, values: list[Value]) -> str:
    rows = [
        f"| `{value.name}` | `{_cell(json.dumps(value.default))}` | {_cell(value.description)} |"
        for value in values
    ]
    return "\n".join([f"### {title}", "", "| Value | Default | |", "| --- | --- | --- |", *rows, ""])


def _pool_table(pool: dict[str, Any]) -> str:
    rows = []
    for name, part in _flat(pool["properties"]):
        rows.append(f"| `{name}` | {_cell(part.get('description') or _shape(part))} |")
    return "\n".join(["### Entries of `nodePools`", "", "| Field | |", "| --- | --- |", *rows, ""])


def _flat(properties: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, part in properties.items():
        if "properties" in part:
            found += _flat(part["properties"], f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", part))
    return found


def _shape(part: dict[str, Any]) -> str:
    """What stands for a description: the shape's name."""
    named = str(part.get("$ref", "")).rpartition("/")[2]
    return {"stringMap": "strings by name", "free": "as Kubernetes has it"}.get(named, named or part["type"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

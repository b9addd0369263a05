"""Spaces in the JSON that tools are called with, bounded: models may make them without end."""

from __future__ import annotations

import json


def with_spaces(tag: str, most: int) -> str:
    """A structural tag, as xgrammar reads it, in which each JSON schema has a bound, its own where it says
    one: at most so many spaces, tabs and line ends in a row between words."""
    content = json.loads(tag)
    if isinstance(content, dict):
        _bound(content.get("format"), most)
    return json.dumps(content)


def _bound(node: object, most: int) -> None:
    """What is inside of schemas is theirs and stays."""
    if isinstance(node, list):
        for one in node:
            _bound(one, most)
    elif isinstance(node, dict):
        if node.get("type") == "json_schema":
            if node.get("max_whitespace_cnt") is None:
                node["max_whitespace_cnt"] = most
            return
        for one in node.values():
            _bound(one, most)

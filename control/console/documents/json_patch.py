"""JSON Patch (RFC 6902) on documents."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from common.errors import InvalidInput

MAX_OPERATIONS = 1000
_INDEX = re.compile(r"0|[1-9]\d{0,8}")


def patched(document: Any, operations: object) -> Any:
    """The document after all operations, itself unchanged. Raises ``InvalidInput`` naming the operation."""
    if not isinstance(operations, list) or len(operations) > MAX_OPERATIONS:
        raise InvalidInput(f"--patch: a JSON patch is a list of at most {MAX_OPERATIONS} operations")
    result = copy.deepcopy(document)
    for number, operation in enumerate(operations):
        try:
            result = _applied(result, operation)
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidInput(f"--patch: operation [{number}]: {error.args[0]}", param="--patch") from error
    return result


def _applied(document: Any, operation: object) -> Any:
    if not isinstance(operation, dict):
        raise TypeError("must be a mapping with op and path")
    name, path = operation.get("op"), _parts(operation.get("path"))
    if name in ("add", "replace", "test") and "value" not in operation:
        raise ValueError(f"{name} needs a value")
    if name == "test":
        if _at(document, path) != operation["value"]:
            raise ValueError(f"{operation['path']} is not what is tested for")
        return document
    if name == "add":
        return _added(document, path, copy.deepcopy(operation["value"]))
    if name == "remove":
        return _removed(document, path)
    if name == "replace":
        _at(document, path)
        return _added(_removed(document, path) if path else None, path, copy.deepcopy(operation["value"]))
    if name in ("move", "copy"):
        source = _parts(operation.get("from"))
        value = copy.deepcopy(_at(document, source))
        if name == "move":
            if path[: len(source)] == source and path != source:
                raise ValueError("cannot move a value into itself")
            document = _removed(document, source)
        return _added(document, path, value)
    raise ValueError("op must be add, remove, replace, move, copy or test")


def _parts(path: object) -> list[str]:
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise TypeError("a path begins with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _at(document: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if isinstance(document, list):
            document = document[_index(part, len(document) - 1)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            raise LookupError(f"there is no {part!r}")
    return document


def _index(part: str, most: int) -> int:
    if not _INDEX.fullmatch(part) or int(part) > most:
        raise LookupError(f"there is no position {part!r}")
    return int(part)


def _added(document: Any, parts: Sequence[str], value: Any) -> Any:
    if not parts:
        return value
    parent = _at(document, parts[:-1])
    last = parts[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise TypeError(f"what lies above {last!r} is neither a mapping nor a list")
    return document


def _removed(document: Any, parts: Sequence[str]) -> Any:
    if not parts:
        raise ValueError("the whole document cannot be taken away")
    _at(document, parts)
    parent = _at(document, parts[:-1])
    if isinstance(parent, list):
        parent.pop(_index(parts[-1], len(parent) - 1))
    else:
        del parent[parts[-1]]
    return document

"""Documents as people write them, and the difference between two."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

SERVER_SET = frozenset(("owner", "uid", "resourceVersion", "generation", "createdMs"))
"""Of metadata, what control sets; all but name, project, labels and annotations."""

Document = dict[str, Any]


def as_written(content: Document, *, keep_version: bool = False) -> Document:
    """Without what control writes: status and ``SERVER_SET``. ``keep_version``: the version of the resource
    stays, so that control refuses the document where it has changed since."""
    metadata = content.get("metadata")
    if not isinstance(metadata, dict) or not SERVER_SET & metadata.keys():
        return content
    dropped = SERVER_SET - {"resourceVersion"} if keep_version else SERVER_SET
    kept = {key: value for key, value in metadata.items() if key not in dropped}
    rest = {key: value for key, value in content.items() if key != "status"}
    return {**rest, "metadata": kept}


def merged(document: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396) applied: mappings go into each other, null takes away."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def difference(old: Document | None, new: Document, title: str) -> list[str]:
    """Lines of a unified diff of both as YAML; none where they say the same."""
    before = [] if old is None else _lines(as_written(old))
    after = _lines(as_written(new))
    return list(difflib.unified_diff(before, after, f"now: {title}", f"then: {title}", lineterm=""))


def print_difference(out: Console, lines: list[str]) -> None:
    """The lines of a diff, in colour on a terminal."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        style = "bold" if line.startswith(("+++", "---")) else styles.get(line[:1], "")
        out.print(line, markup=False, style=style, soft_wrap=True)


def _lines(document: Document) -> list[str]:
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=True, allow_unicode=True, width=10_000)
    return text.splitlines()

"""Reading YAML files of resources, so that each mistake is named with file, document and line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from common.errors import ComputilityError, InvalidInput, NotFound, Problem
from common.resources import Resource, parse_resource

SUFFIXES = (".yaml", ".yml", ".json")
_INDEX = re.compile(r"^\[(\d+)\]\.?")
_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class Manifest:
    """One document of a file. ``number`` counts from 1."""

    file: str
    number: int
    node: yaml.Node
    content: dict[str, Any]

    @property
    def title(self) -> str:
        """``Kind/name`` as far as the document says it."""
        metadata = self.content.get("metadata")
        name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
        return f"{self.content.get('kind', '?')}/{name}"

    def where(self, path: str = "") -> str:
        """``file:line (document n, Kind/name)`` for a path like ``spec.roles[0].name``."""
        return f"{self.file}:{line_of(self.node, path)} (document {self.number}, {self.title})"

    def parse(self) -> Resource:
        """The resource; ``InvalidInput`` names file, document, line and path of each mistake."""
        try:
            return parse_resource(self.content)
        except InvalidInput as error:
            raise self.blame(error) from error

    def blame(self, error: ComputilityError) -> ComputilityError:
        """The same error, saying where in the files it is."""
        if error.problems:
            lines = [f"{self.where(p.path)}: {p.path}: {p.message}" for p in error.problems]
            return type(error)("\n".join(lines), error.code, error.param, error.problems)
        return type(error)(f"{self.where(error.param or '')}: {error.message}", error.code, error.param)


def blame(manifests: Sequence[Manifest], error: ComputilityError) -> ComputilityError:
    """An error about a list of documents, with paths like ``[index].spec``, as one about files and lines."""
    if len(manifests) == 1:
        return manifests[0].blame(error)
    found = _INDEX.match(error.param or "")
    if found is None or int(found[1]) >= len(manifests):
        return error
    manifest = manifests[int(found[1])]
    own = [
        Problem(_INDEX.sub("", p.path), p.message, p.code)
        for p in error.problems
        if p.path.startswith(found[0].rstrip("."))
    ]
    message = _INDEX.sub("", error.message).removeprefix(": ")
    return manifest.blame(type(error)(message, error.code, _INDEX.sub("", error.param or ""), tuple(own)))


def line_of(node: yaml.Node, path: str) -> int:
    """The line (from 1) of the deepest part of ``path`` that the document has."""
    line = node.start_mark.line
    for name, index in _PART.findall(path):
        if isinstance(node, yaml.MappingNode) and name:
            found = next(((k, v) for k, v in node.value if k.value == name), None)
            if found is None:
                break
            key, node = found
            line = key.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and index and int(index) < len(node.value):
            node = node.value[int(index)]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1


def read_manifests(sources: Sequence[str]) -> list[Manifest]:
    """All documents of files, of the YAML and JSON files in folders, and of ``-`` (standard input)."""
    manifests = [manifest for source in sources for file in _files(source) for manifest in _read(file)]
    if not manifests:
        raise InvalidInput(f"no resources in {', '.join(sources)}")
    return manifests


def _files(source: str) -> list[str]:
    path = Path(source).expanduser()
    if source == "-" or path.is_file():
        return [source]
    if not path.is_dir():
        raise NotFound(f"there is no file or folder {source}")
    found = sorted(str(file) for file in path.iterdir() if file.suffix in SUFFIXES)
    if not found:
        raise InvalidInput(f"no {', '.join(SUFFIXES)} files in {source}")
    return found


def _read(file: str) -> Iterator[Manifest]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {file}: {error}") from error
    name = "standard input" if file == "-" else file
    loader = yaml.SafeLoader(text)
    number = 0
    try:
        while loader.check_node():
            node = cast(yaml.Node, loader.get_node())
            content = loader.construct_document(node)
            number += 1
            if content is None:
                continue
            if not isinstance(content, dict):
                raise InvalidInput(
                    f"{name}:{node.start_mark.line + 1} (document {number}): a resource must be a mapping"
                )
            yield Manifest(name, number, node, content)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else "?"
        text = error.problem or error.context or "wrong"
        raise InvalidInput(f"{name}:{line} (document {number + 1}): not YAML: {text}") from error
    finally:
        loader.dispose()

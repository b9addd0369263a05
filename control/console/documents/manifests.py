"""Reading YAML files of resources, so that each mistake is named with file, document and line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import yaml

from common.errors import ComputilityError, InvalidInput, NotFound, Problem
from common.kind_names import KIND_NAMES
from common.private import at_home
from common.vocabulary import quoted, shortened
from control.console.documents.documents import as_written

if TYPE_CHECKING:
    from common.resources import Resource

SUFFIXES = (".yaml", ".yml", ".json")
MAX_NODES = 200_000
"""Values in one document, aliases counted as what they stand for."""
_LIST = "List"
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
        name = metadata.get("name") if isinstance(metadata, dict) else None
        kind = self.content.get("kind")
        return "/".join(shortened(part, 80) if isinstance(part, str) else "?" for part in (kind, name))

    @property
    def project(self) -> str:
        """The project, in either word for it; empty where the document says none."""
        return project_in(self.content) or ""

    def where(self, path: str = "") -> str:
        """``file:line (document n, Kind/name)`` for a path like ``spec.roles[0].name``."""
        return f"{self.file}:{line_of(self.node, path)} (document {self.number}, {self.title})"

    def parse(self) -> Resource:
        """The resource; ``InvalidInput`` names file, document, line and path of each mistake."""
        from common.resources import parse_resource

        try:
            return parse_resource(self.content)
        except InvalidInput as error:
            raise self.blame(error) from error

    def require_json(self) -> None:
        """Raise ``InvalidInput`` for what cannot be sent: control says all else, and ``blame`` where."""
        try:
            json.dumps(self.content, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            self.parse()

    def blame(self, error: ComputilityError) -> ComputilityError:
        """The same error, saying where in the files it is."""
        if error.problems:
            lines = [f"{self.where(p.path)}: {p.path}: {p.message}{self._meant(p)}" for p in error.problems]
            return type(error)("\n".join(lines), error.code, error.param, error.problems)
        return type(error)(f"{self.where(error.param or '')}: {error.message}", error.code, error.param)

    def _meant(self, problem: Problem) -> str:
        """The nearest field to one that there is not."""
        kind = self.content.get("kind")
        if problem.code != "extra_forbidden" or kind not in {one.kind for one in KIND_NAMES}:
            return ""
        from control.console.documents.field_reference import nearest_field

        near = nearest_field(str(kind), problem.path)
        return f"; did you mean {near}?" if near else ""


def project_in(document: dict[str, Any]) -> str | None:
    """The project that a document names, in its own word or as kubectl has it (``metadata.namespace``)."""
    metadata = document["metadata"]
    project: str | None = metadata.get("project") or metadata.get("namespace")
    return project


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


def read_manifests(sources: Sequence[str], *, keep_version: bool = False) -> list[Manifest]:
    """All documents of files, of the YAML and JSON files in folders, and of ``-`` (standard input), without
    what control sets. ``keep_version``: a document that has a version is refused where that is old."""
    files = [file for source in sources for file in _files(source)]
    manifests = [manifest for file in files for manifest in _read(file, keep_version)]
    if not manifests:
        raise InvalidInput(f"no resources in {', '.join(sources)}")
    return manifests


def _files(source: str) -> list[str]:
    path = at_home(source)
    if source == "-" or path.is_file():
        return [source]
    if not path.is_dir():
        raise NotFound(f"there is no file or folder {source}")
    found = sorted(str(file) for file in path.iterdir() if file.suffix in SUFFIXES)
    if not found:
        raise InvalidInput(f"no {', '.join(SUFFIXES)} files in {source}")
    return found


def _check_node(top: yaml.Node, where: str) -> None:
    """Refuse a key that stands twice, of which only the last would count, and aliases that stand for more
    than anybody wrote."""
    sizes: dict[int, int] = {}

    def size_of(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        sizes[id(node)] = MAX_NODES  # until it is known: an alias of what it stands in
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        sizes[id(node)] = 1 + sum(map(size_of, children))
        if sizes[id(node)] >= MAX_NODES:
            line = node.start_mark.line + 1
            raise InvalidInput(f"{where.format(line=line)}: has more than {MAX_NODES} values")
        return sizes[id(node)]

    size_of(top)


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.value in seen:
            line = key.start_mark.line + 1
            raise InvalidInput(f"{where.format(line=line)}: {quoted(key.value)} stands twice in one mapping")
        seen.add(key.value)


def _loader(text: str, name: str) -> yaml.SafeLoader:
    try:
        return yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        raise InvalidInput(f"{name}: not YAML: holds U+{error.character:04X}") from error


def _content_of(loader: yaml.SafeLoader, node: yaml.Node) -> object:
    try:
        return loader.construct_document(node)
    except (LookupError, AttributeError, TypeError) as error:
        raise ValueError("a value is not of the type that its tag (such as !!int) says") from error


def _listed(node: yaml.Node, content: dict[str, Any]) -> Iterator[tuple[yaml.Node, dict[str, Any]]]:
    """The documents of a list, as `get` gives it, else the one document; each with its place."""
    items = content.get("items")
    if content.get("kind", _LIST) != _LIST or not isinstance(items, list):
        yield node, content
        return
    found = next(value for key, value in cast(yaml.MappingNode, node).value if key.value == "items")
    for inner, item in zip(found.value, items, strict=True):
        if not isinstance(item, dict):
            raise ValueError("each of items must be a mapping")
        yield inner, item


def _read(file: str, keep_version: bool) -> Iterator[Manifest]:
    try:
        text = sys.stdin.read() if file == "-" else at_home(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {file}: {error}") from error
    name = "standard input" if file == "-" else file
    loader = _loader(text, name)
    number = 0
    try:
        while loader.check_node():
            node = cast(yaml.Node, loader.get_node())
            number += 1
            _check_node(node, f"{name}:{{line}} (document {number})")
            content = _content_of(loader, node)
            if content is None:
                continue
            if not isinstance(content, dict):
                raise InvalidInput(
                    f"{name}:{node.start_mark.line + 1} (document {number}): a resource must be a mapping"
                )
            for inner, document in _listed(node, content):
                yield Manifest(name, number, inner, as_written(document, keep_version=keep_version))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else "?"
        text = error.problem or error.context or "wrong"
        raise InvalidInput(f"{name}:{line} (document {number + 1}): not YAML: {text}") from error
    except RecursionError as error:
        raise InvalidInput(f"{name} (document {number + 1}): nested too deeply") from error
    except ValueError as error:  # a number of very many digits, a day that no calendar has
        raise InvalidInput(f"{name} (document {number}): not YAML: {error}") from error
    finally:
        loader.dispose()

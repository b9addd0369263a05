"""Resources of one or more kinds as they are shown, once or with every change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from common.kind_names import API_VERSION
from control.console.formats import Output
from control.console.output import console, print_document, print_table, to_stderr
from control.console.tables.shapes import Shape
from control.console.tables.tables import resource_table
from control.console.terminal import json_text, write_out

if TYPE_CHECKING:
    from common.kind_names import KindName

Document = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """The documents of one kind."""

    kind: KindName
    documents: Sequence[Document]


@dataclass(frozen=True)
class Listing:
    """Sections in order. ``single``: one resource was asked for by name."""

    sections: Sequence[Section]
    single: bool = False
    widths: dict[str, list[int]] = field(default_factory=dict)
    """Of the columns of each kind's table, for the rows of changes."""

    @property
    def documents(self) -> list[Document]:
        """All documents."""
        return [document for section in self.sections for document in section.documents]

    @property
    def content(self) -> Document:
        """The one resource, or a list that `apply` takes."""
        documents = self.documents
        if self.single and len(documents) == 1:
            return documents[0]
        return {"apiVersion": API_VERSION, "kind": "List", "items": documents}


def show(listing: Listing, shape: Shape, *, quiet: bool = False) -> None:
    """Print it. ``quiet``: changes follow, each as a line of JSON where that was asked for, and an empty list
    is no matter."""
    if shape.template is not None:
        write_out(shape.template.of(listing.content) + "\n")
    elif shape.word == "name":
        write_out("".join(f"{name_of(document)}\n" for document in listing.documents))
    elif shape.word == "json" and quiet:
        for document in listing.documents:
            write_out(json_text({"type": "put", "resource": document}) + "\n")
    elif shape.word in ("yaml", "json"):
        print_document(listing.content, Output(shape.word))
    elif listing.documents:
        _tables(listing, wide=shape.word == "wide")
    elif not quiet:
        what = listing.sections[0].kind.plural if len(listing.sections) == 1 else "resources"
        to_stderr(f"no {what}")


def name_of(document: Document) -> str:
    """``kind/name``."""
    return f"{document['kind'].lower()}/{document['metadata']['name']}"


def _tables(listing: Listing, *, wide: bool) -> None:
    shown = [section for section in listing.sections if section.documents]
    for index, section in enumerate(shown):
        if index:
            console().print()
        headers, rows = resource_table(section.kind.kind, section.documents, wide)
        if len(listing.sections) > 1:
            position = headers.index("NAME")
            for row in rows:
                row[position] = f"{section.kind.kind.lower()}/{row[position]}"
        listing.widths[section.kind.kind] = print_table(headers, rows)


def follow(changes: Iterable[Document], listing: Listing, shape: Shape) -> None:
    """Print each change: a row under the table, a document, a line of JSON."""
    for text in _changes(changes, listing, shape):
        write_out(text)


def _changes(changes: Iterable[Document], listing: Listing, shape: Shape) -> Iterator[str]:
    for change in changes:
        document, gone = change["resource"], change["type"] == "delete"
        if shape.word == "json":
            yield json_text({"type": change["type"], "resource": document}) + "\n"
        elif shape.template is not None:
            yield shape.template.of(document) + "\n"
        elif shape.word == "name":
            yield f"{name_of(document)}\n"
        elif shape.word == "yaml":
            import yaml

            yield "---\n" + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
        elif gone:
            yield f"{name_of(document)} deleted\n"
        else:
            _row(document, listing, wide=shape.word == "wide")


def _row(document: Document, listing: Listing, *, wide: bool) -> None:
    """A row in the columns of the table above it; with a heading where none stands there."""
    kind = document["kind"]
    headers, rows = resource_table(kind, [document], wide)
    if len(listing.sections) > 1:
        rows[0][headers.index("NAME")] = name_of(document)
    widths = listing.widths.get(kind)
    if widths is not None and len(widths) == len(headers):
        print_table(headers, rows, widths=widths)
    else:
        listing.widths[kind] = print_table(headers, rows)

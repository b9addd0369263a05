"""Pages of the kinds: every field that may be written, with its type, limits and default."""

from __future__ import annotations

import re

from pydantic.alias_generators import to_camel

from common.kind_names import API_VERSION, KIND_NAMES, KindName
from common.resources import KINDS
from control.console.documents.field_reference import Field, all_fields, example_of
from tools.docs.markdown import cell, table

_NAME = re.compile(r"``([a-z0-9]+(?:_[a-z0-9]+)+)``")
"""A field as the code names it."""


def kind_pages() -> dict[str, str]:
    """Path below the site's ``reference/kinds`` to its text, one for each kind and one that lists them."""
    pages = {f"{one.plural}.md": _page(one) for one in KIND_NAMES}
    rows = [
        (f"[{one.kind}]({one.plural}.md)", one.plural, one.short or "–", one.scope, _said(one.kind))
        for one in KIND_NAMES
    ]
    listed = table(("Kind", "In commands", "Short", "Belongs to", ""), rows)
    pages["index.md"] = (
        "# Kinds\n\nAll that is declared is one of these, in the same YAML for `computility apply`, the\n"
        f"HTTP API and `kubectl apply`. `apiVersion` is `{API_VERSION}`. `computility explain\n"
        f"KIND.FIELD` shows the same in a terminal.\n\n{listed}\n"
    )
    return pages


def _page(one: KindName) -> str:
    fields = all_fields(one.kind)
    spec = [field for field in fields if field.path.startswith("spec.")]
    status = [field for field in fields if field.path.startswith("status.")]
    names = [one.plural, *([one.short] if one.short else [])]
    parts = [f"# {one.kind}", _said(one.kind), f"In commands: {', '.join(f'`{name}`' for name in names)}."]
    if example := example_of(one.kind):
        parts += ["The least that it takes:", f"```yaml\n{example.rstrip()}\n```"]
    parts += ["## spec", _fields(spec) if spec else "It has none."]
    if status:
        parts += ["## status", "Written by controllers only.", _fields(status)]
    return "\n\n".join(parts) + "\n"


def _fields(fields: list[Field]) -> str:
    rows = [
        (
            f"`{field.path.partition('.')[2]}`" + (" **required**" if field.required else ""),
            cell(field.type),
            cell("; ".join(part for part in (field.said, *field.facts) if part)),
        )
        for field in fields
    ]
    return table(("Field", "Type", ""), rows)


def _said(kind: str) -> str:
    """What the kind is, from its spec."""
    spec = KINDS[kind].model_fields["spec"].annotation
    said = " ".join((getattr(spec, "__doc__", "") or "").split())
    return _NAME.sub(lambda found: f"`{to_camel(found[1])}`", said).replace("``", "`")

"""What ``get -o`` takes: a table, names, documents, or a template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import InvalidInput

if TYPE_CHECKING:
    from control.console.tables.jsonpath import JsonPath

WORDS = ("table", "wide", "name", "yaml", "json")
_TEMPLATE = "jsonpath="


@dataclass(frozen=True)
class Shape:
    """One of ``WORDS``, or a template (then ``word`` is empty)."""

    word: str
    template: JsonPath | None = None

    @staticmethod
    def parse(text: str) -> Shape:
        """Raises ``InvalidInput`` listing what there is."""
        if text.startswith(_TEMPLATE):
            from control.console.tables.jsonpath import JsonPath

            return Shape("", JsonPath(text.removeprefix(_TEMPLATE)))
        if text not in WORDS:
            raise InvalidInput(f"-o: {text!r}: write {', '.join(WORDS)} or jsonpath=TEMPLATE", param="-o")
        return Shape(text)

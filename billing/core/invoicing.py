"""What is invoiced: lines of a period, and what later documents add to or take from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal

DocumentKind = Literal["invoice", "credit_note"]
PREFIXES: Mapping[str, str] = {"invoice": "INV", "credit_note": "CRN"}


@dataclass(frozen=True)
class LineKey:
    """What lines have in common: whose, of which Model, at which price. ``microcredits_per_million`` None =
    no price was found. Texts that do not apply are empty. What is of an order has it in place of a book."""

    project: str
    model: str
    device_class: str
    meter: str
    book: str = ""
    version: int = 0
    microcredits_per_million: int | None = None

    def sort_key(self) -> tuple[Any, ...]:
        """Lines without a price come before others."""
        price = -1 if self.microcredits_per_million is None else self.microcredits_per_million
        return (self.project, self.model, self.device_class, self.meter, self.book, self.version, price)


@dataclass(frozen=True)
class InvoiceLine:
    """``quantity`` (negative on what is given back) for ``microcredits``, the sum over rounded events."""

    key: LineKey
    quantity: int
    microcredits: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**vars(self.key), "quantity": self.quantity, "microcredits": self.microcredits}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> InvoiceLine:
        """What ``to_dict`` made."""
        key = LineKey(**{one.name: content[one.name] for one in fields(LineKey)})
        return InvoiceLine(key, content["quantity"], content["microcredits"])


@dataclass(frozen=True)
class Period:
    """``begin_ms <= end of usage < end_ms``; ``zone`` is where its midnights are, ``first_day`` and
    ``last_day`` (included) its days there, ``2026-03-31``."""

    begin_ms: int
    end_ms: int
    zone: str
    first_day: str
    last_day: str

    def overlaps(self, other: Period) -> bool:
        """Whether a moment is in both."""
        return self.begin_ms < other.end_ms and other.begin_ms < self.end_ms

    def is_same(self, other: Period) -> bool:
        """Whether the same moments are in both, whatever the zone is called."""
        return (self.begin_ms, self.end_ms) == (other.begin_ms, other.end_ms)

    def days(self) -> tuple[str, str]:
        """The first and the last day, as its zone has them."""
        return self.first_day, self.last_day


@dataclass(frozen=True)
class Document:
    """An invoice or a credit note as it was issued. Nothing in it ever changes.

    ``number`` counts all documents from 1, without gaps. ``refers_to`` is the period's first document, on
    later ones.
    """

    number: int
    kind: DocumentKind
    tenant: str
    display_name: str
    period: Period
    issued_ms: int
    lines: tuple[InvoiceLine, ...]
    refers_to: int | None = None

    @property
    def microcredits(self) -> int:
        """What is to be paid; negative on a credit note."""
        return sum(line.microcredits for line in self.lines)

    @property
    def name(self) -> str:
        """``INV-000001`` or ``CRN-000002``."""
        return f"{PREFIXES[self.kind]}-{self.number:06d}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "number": self.number,
            "name": self.name,
            "kind": self.kind,
            "tenant": self.tenant,
            "display_name": self.display_name,
            "period": dict(vars(self.period)),
            "issued_ms": self.issued_ms,
            "issued": f"{datetime.fromtimestamp(self.issued_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "refers_to": self.refers_to,
            "microcredits": self.microcredits,
            "lines": [line.to_dict() for line in self.lines],
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Document:
        """What ``to_dict`` made."""
        own = (one.name for one in fields(Document) if one.name not in ("lines", "period"))
        named = {name: content[name] for name in own}
        period = Period(**content["period"])
        return Document(**named, period=period, lines=tuple(map(InvoiceLine.from_dict, content["lines"])))


def is_of_order(key: LineKey) -> bool:
    """Whether a line is what an order costs, gives back, or has paid for."""
    return key.meter.startswith(("order", "covered_"))


def added(lines: Iterable[InvoiceLine]) -> tuple[InvoiceLine, ...]:
    """One line for each key, in their order; what comes to nothing is left out."""
    sums: dict[LineKey, tuple[int, int]] = {}
    for line in lines:
        quantity, microcredits = sums.get(line.key, (0, 0))
        sums[line.key] = quantity + line.quantity, microcredits + line.microcredits
    ordered = sorted(sums.items(), key=lambda item: item[0].sort_key())
    return tuple(InvoiceLine(key, *sum_) for key, sum_ in ordered if any(sum_))


def not_yet_billed(charged: Sequence[InvoiceLine], documents: Sequence[Document]) -> tuple[InvoiceLine, ...]:
    """What is charged by now, less what the period's documents say."""
    billed = (line for document in documents for line in document.lines)
    less = (replace(one, quantity=-one.quantity, microcredits=-one.microcredits) for one in billed)
    return added([*charged, *less])

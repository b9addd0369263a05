"""Past usage at other prices: what it would have cost, beside what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from billing.core.events import UsageEvent
from billing.core.rating import PriceBook, Rates
from billing.core.volume import Counter

MAX_NAMED = 20
"""Things without a price that are named."""


@dataclass
class TenantTrial:
    """Sums of a tenant's usage: charged as it was, and as it would have been; ``unpriced_lines`` are lines
    that would have had no price."""

    tenant: str
    events: int = 0
    charged_microcredits: int = 0
    microcredits: int = 0
    unpriced_lines: int = 0

    @property
    def difference_microcredits(self) -> int:
        """What the tenant would have paid more; negative = less."""
        return self.microcredits - self.charged_microcredits

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "difference_microcredits": self.difference_microcredits}


@dataclass
class Trial:
    """Rates past usage as if ``proposed`` books had been in force for all of it, whenever they begin and end,
    in place of all others for the same tenants.

    Events are added in the order in which they ended; volume counts from the first of them.
    """

    standing: Sequence[PriceBook]
    proposed: Sequence[PriceBook]
    tenants: dict[str, TenantTrial] = field(default_factory=dict)
    unpriced: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        audiences = self.audiences
        kept = [book for book in self.standing if book.tenant not in audiences]
        always = [replace(book, from_ms=0, until_ms=None) for book in self.proposed]
        self._rates = Rates([*kept, *always])
        self._used: dict[str, dict[Counter, int]] = {}

    @property
    def audiences(self) -> frozenset[str | None]:
        """The tenants that the proposed books are for; None among them = all."""
        return frozenset(book.tenant for book in self.proposed)

    def add(self, event: UsageEvent, charged_microcredits: int) -> None:
        """Rate one more event. Raises what rating raises."""
        used = self._used.setdefault(event.tenant, {})
        sums = self.tenants.setdefault(event.tenant, TenantTrial(event.tenant))
        sums.events += 1
        sums.charged_microcredits += charged_microcredits
        for line in self._rates.lines(event, used):
            sums.microcredits += line.microcredits
            if line.counter is not None:
                used[line.counter] = line.before + line.quantity
            if line.unpriced:
                sums.unpriced_lines += 1
                what = event.device_class if event.kind == "device" else event.model_identity or event.model
                if len(self.unpriced) < MAX_NAMED:
                    self.unpriced[f"{line.meter} of {what}"] = None

    def to_dict(self) -> Mapping[str, Any]:
        """Plain JSON types; tenants by their names, and the sum of all."""
        total = TenantTrial("")
        for one in self.tenants.values():
            total.events += one.events
            total.charged_microcredits += one.charged_microcredits
            total.microcredits += one.microcredits
            total.unpriced_lines += one.unpriced_lines
        return {
            "tenants": [self.tenants[name].to_dict() for name in sorted(self.tenants)],
            "total": {name: value for name, value in total.to_dict().items() if name != "tenant"},
            "unpriced": list(self.unpriced),
        }

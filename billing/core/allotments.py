"""Allotments: what an order or a voucher has put aside for a tenant, and what usage takes of it. Pure.

Usage is covered by allotments first; what they do not cover is owed in money.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from billing.core.events import UsageEvent
from billing.core.rating import BookItem, PinnedPrice, RatedLine, amount_microcredits

AllotmentUnit = Literal["tokens", "trained_tokens", "device_seconds", "microcredits"]
UNITS: tuple[AllotmentUnit, ...] = get_args(AllotmentUnit)
_TOKENS = frozenset(("prompt_tokens", "cached_tokens", "completion_tokens"))
_METERS: Mapping[str, frozenset[str]] = {
    "tokens": _TOKENS,
    "trained_tokens": frozenset(("trained_tokens",)),
    "device_seconds": frozenset(("device_seconds",)),
    "microcredits": _TOKENS | {"trained_tokens", "device_seconds"},
}
COVERED = "covered_"
"""How the meters of lines begin that an allotment pays for: ``covered_tokens``, ``covered_microcredits``."""


@dataclass(frozen=True)
class Allotment:
    """``granted`` units for usage that was admitted from ``from_ms`` to ``until_ms`` (not included).

    ``id`` is its order's, and unique among all tenants. ``price_microcredits`` is what was paid for all of it
    (0 = given). ``carried`` units that are unused by then hold for usage until ``carried_until_ms``.
    ``models`` are Models as prices name them (``project/name``, or ``name`` of a shared one),
    ``device_class`` is ``vendor/model``; empty = any.
    """

    id: str
    tenant: str
    unit: AllotmentUnit
    granted: int
    price_microcredits: int
    from_ms: int
    until_ms: int
    carried: int = 0
    carried_until_ms: int = 0
    models: tuple[str, ...] = ()
    device_class: str = ""

    @property
    def ends_ms(self) -> int:
        """From when on it covers nothing, what is carried over included."""
        return max(self.until_ms, self.carried_until_ms)

    def is_carried(self, event: UsageEvent) -> bool:
        """Whether the event comes when only what is carried over holds."""
        return event.priced_ms >= self.until_ms

    def covers(self, event: UsageEvent) -> bool:
        """Whether usage of this kind and moment may be taken from it."""
        if not self.from_ms <= event.priced_ms < self.ends_ms:
            return False
        if self.device_class and event.device_class.lower() != self.device_class.lower():
            return False
        return not self.models or event.model_identity in self.models or _shared_name(event) in self.models

    def earned(self, used: int) -> int:
        """The part of its price that ``used`` units have earned, in micro-credits: all with the last."""
        return self.price_microcredits * used // self.granted

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**vars(self), "models": list(self.models)}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Allotment:
        """What ``to_dict`` made."""
        return Allotment(**{**content, "models": tuple(content["models"])})


@dataclass(frozen=True)
class Taken:
    """Units that usage has taken of an allotment; ``carried`` of these after its end."""

    used: int = 0
    carried: int = 0

    def room(self, terms: Allotment, carried: bool) -> int:
        """What may be taken yet."""
        left = terms.granted - self.used
        return min(left, terms.carried - self.carried) if carried else left

    def plus(self, units: int, carried: bool) -> Taken:
        """After so many units more; negative = given back."""
        return Taken(self.used + units, self.carried + (units if carried else 0))


@dataclass(frozen=True)
class Draw:
    """What an event takes of one allotment: ``units``, which would have cost ``microcredits``. ``earned`` is
    the part of the allotment's price that goes with it."""

    allotment: Allotment
    units: int
    microcredits: int
    earned: int

    @property
    def line(self) -> RatedLine:
        """The line that takes from an event's amount what is paid for already."""
        meter = COVERED + self.allotment.unit
        pin = PinnedPrice(self.allotment.id, 1, BookItem(meter, 0))
        return RatedLine(meter, -self.units, -self.microcredits, pin)


def in_order(allotments: Iterable[Allotment]) -> list[Allotment]:
    """In which order usage takes of them: those of units before money; of each, what ends first, then what
    covers less, then what is older."""
    return sorted(
        allotments,
        key=lambda one: (one.unit == "microcredits", one.until_ms, not one.models, one.from_ms, one.id),
    )


def draw(
    event: UsageEvent,
    lines: Sequence[RatedLine],
    allotments: Sequence[Allotment],
    taken: MutableMapping[str, Taken],
) -> list[Draw]:
    """What the event takes of the allotments (as ``in_order`` has them); ``taken``, by id, goes on with it.

    A line that costs nothing takes nothing. The parts and what is left in money add up to the lines.
    """
    rest = [_Rest(line) for line in lines if line.microcredits > 0]
    draws: list[Draw] = []
    for terms in allotments:
        if not terms.covers(event):
            continue
        carried, before = terms.is_carried(event), taken.get(terms.id, Taken())
        room = before.room(terms, carried)
        units = microcredits = 0
        for one in rest:
            if room > units and one.microcredits and one.line.meter in _METERS[terms.unit]:
                took, covered = one.take(terms.unit, room - units)
                units, microcredits = units + took, microcredits + covered
        if units:
            after = taken[terms.id] = before.plus(units, carried)
            earned = terms.earned(after.used) - terms.earned(before.used)
            draws.append(Draw(terms, units, microcredits, earned))
    return draws


def give_back(
    terms: Allotment,
    event: UsageEvent,
    line: RatedLine,
    taken: MutableMapping[str, Taken],
    ended: bool = False,
) -> Draw:
    """What is taken back with an event that had taken ``line`` (of ``Draw.line``) of an allotment; ``taken``
    goes on with it. What an allotment that is over (``ended``) has earned stays earned."""
    before = taken[terms.id]
    after = taken[terms.id] = before.plus(line.quantity, terms.is_carried(event))
    earned = 0 if ended else terms.earned(before.used) - terms.earned(after.used)
    return Draw(terms, -line.quantity, -line.microcredits, earned)


def refund_microcredits(terms: Allotment, taken: Taken, at_ms: int) -> int:
    """What is given back for what is unused when an order is cancelled at this moment.

    The price of the units that could still be used. Devices are kept ready by the time: of their price no
    more is given back than the part for the time that is left.
    """
    if at_ms >= terms.ends_ms:
        return 0
    usable = taken.room(terms, at_ms >= terms.until_ms)
    unused = terms.price_microcredits - terms.earned(terms.granted - usable)
    if terms.unit != "device_seconds":
        return unused
    left_ms = max(0, terms.until_ms - max(at_ms, terms.from_ms))
    return min(unused, terms.price_microcredits * left_ms // (terms.until_ms - terms.from_ms))


class _Rest:
    """What of a line is not covered yet."""

    def __init__(self, line: RatedLine) -> None:
        self.line = line
        self.quantity = line.quantity
        self.microcredits = line.microcredits

    def take(self, unit: AllotmentUnit, room: int) -> tuple[int, int]:
        """Units that are taken, and what they would have cost. What stays costs what it would by itself."""
        if unit == "microcredits":
            covered = min(room, self.microcredits)
            self.microcredits -= covered
            return covered, covered
        took = min(room, self.quantity)
        price = self.line.price
        left = amount_microcredits(self.quantity - took, price.item.microcredits_per_million) if price else 0
        covered = self.microcredits - left
        self.quantity, self.microcredits = self.quantity - took, left
        return took, covered


def _shared_name(event: UsageEvent) -> str:
    """The bare name of a Model that all tenants may use; of another one a word that names none."""
    return event.model_identity.rpartition("/")[2] if event.model_shared else "/"

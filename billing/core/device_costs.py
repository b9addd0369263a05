"""What devices cost whoever runs them: the purchase, written off over years, and power. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from billing.core.returns import allocated

SECONDS_PER_HOUR = 3600
HOURS_PER_YEAR = 8766
"""Of 365.25 days."""
MILLION = 10**6


@dataclass(frozen=True)
class DeviceCost:
    """One device of a class. It is written off in equal parts over ``depreciation_years``, whether it works
    or not; watts are what it draws, with its part of the host."""

    purchase_microcredits: int
    depreciation_years: int
    busy_watts: int = 0
    idle_watts: int = 0


@dataclass(frozen=True)
class Power:
    """What power costs. ``pue_millis``: power usage effectiveness, what the site draws by what its machines
    do, in thousandths."""

    kwh_microcredits: int = 0
    pue_millis: int = 1000


@dataclass(frozen=True)
class CostTable:
    """Devices by class, ``vendor/model`` (in large or small letters), and the power that they draw."""

    devices: Mapping[str, DeviceCost]
    power: Power = Power()

    @cached_property
    def _busy_second(self) -> Mapping[str, Fraction]:
        return {name.lower(): self._second(one, one.busy_watts) for name, one in self.devices.items()}

    def made_microcredits(self, device_class: str, seconds: int) -> Fraction | None:
        """What so many busy device-seconds cost, exactly; None for a class that has no cost."""
        second = self._busy_second.get(device_class.lower())
        return None if second is None else seconds * second

    def hour_microcredits(self, device_class: str, *, busy: bool) -> int:
        """An hour of a device that is there, rounded half up."""
        found = self.devices[device_class]
        return rounded(SECONDS_PER_HOUR * self._second(found, found.busy_watts if busy else found.idle_watts))

    def _second(self, device: DeviceCost, watts: int) -> Fraction:
        life_seconds = device.depreciation_years * HOURS_PER_YEAR * SECONDS_PER_HOUR
        kwh = Fraction(watts * self.power.pue_millis, 1000 * 1000 * SECONDS_PER_HOUR)
        return Fraction(device.purchase_microcredits, life_seconds) + kwh * self.power.kwh_microcredits


@dataclass(frozen=True)
class Margin:
    """What work was charged, and what making it cost. ``charged_microcredits`` is all of it,
    ``token_microcredits`` the part that was charged for ``tokens`` (of prompts, of answers, and trained).
    ``made_microcredits`` is of the ``device_seconds`` whose class has a cost; ``uncosted_seconds`` are the
    others. Ratios are rounded half up; None = nothing to divide by."""

    tokens: int = 0
    charged_microcredits: int = 0
    token_microcredits: int = 0
    device_seconds: int = 0
    uncosted_seconds: int = 0
    made_microcredits: Fraction = Fraction(0)

    def __add__(self, other: Margin) -> Margin:
        return Margin(
            self.tokens + other.tokens,
            self.charged_microcredits + other.charged_microcredits,
            self.token_microcredits + other.token_microcredits,
            self.device_seconds + other.device_seconds,
            self.uncosted_seconds + other.uncosted_seconds,
            self.made_microcredits + other.made_microcredits,
        )

    @property
    def margin_microcredits(self) -> int:
        """What was charged, less what making it cost."""
        return self.charged_microcredits - rounded(self.made_microcredits)

    def to_dict(self) -> dict[str, int | None]:
        """Plain JSON types."""
        return {
            "tokens": self.tokens,
            "device_seconds": self.device_seconds,
            "uncosted_device_seconds": self.uncosted_seconds,
            "charged_microcredits": self.charged_microcredits,
            "made_microcredits": rounded(self.made_microcredits),
            "margin_microcredits": self.margin_microcredits,
            "margin_millis": _by(1000 * self.margin_microcredits, self.charged_microcredits),
            "charged_per_million_tokens_microcredits": _by(MILLION * self.token_microcredits, self.tokens),
            "made_per_million_tokens_microcredits": _by(MILLION * self.made_microcredits, self.tokens),
        }


def shares(amount: Fraction, weights: Sequence[int]) -> list[Fraction]:
    """``amount`` cut by ``weights`` into parts that add up to it exactly. Each is within a millionth of its
    own part: parts of many amounts have few denominators, and so are soon added up. See ``allocated``."""
    unit = amount.denominator * MILLION
    return [Fraction(part, unit) for part in allocated(amount.numerator * MILLION, weights)]


def rounded(amount: Fraction | int) -> int:
    """Half up."""
    return (2 * amount + 1) // 2


def _by(amount: Fraction | int, by: int) -> int | None:
    return rounded(Fraction(amount) / by) if by > 0 else None

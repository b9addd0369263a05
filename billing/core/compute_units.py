"""The standard compute unit: device time as card-hours of a reference device, by dense BF16 FLOPS. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from billing.core.device_costs import SECONDS_PER_HOUR, rounded

MILLIS = 1000


@dataclass(frozen=True)
class Compute:
    """Thousandths of a unit, rounded half up, and the device-seconds of classes that are not known."""

    unit_millis: int = 0
    unknown_seconds: int = 0


@dataclass(frozen=True)
class ComputeUnits:
    """One unit is an hour of a ``reference`` device (``vendor/model``). ``tflops_of`` a class are dense, in
    BF16; None = not known."""

    reference: str
    tflops_of: Callable[[str], Fraction | None]

    def of(self, device_class: str, seconds: int) -> Fraction | None:
        """The units of so many device-seconds, exactly; None where a class is not known."""
        whole, part = self.tflops_of(self.reference), self.tflops_of(device_class)
        return Fraction(seconds, SECONDS_PER_HOUR) * part / whole if whole and part else None

    def added(self, used: Iterable[tuple[str, int]]) -> Compute:
        """The sum over device-seconds of classes."""
        units, unknown = Fraction(0), 0
        for device_class, seconds in used:
            one = self.of(device_class, seconds)
            units, unknown = (units, unknown + seconds) if one is None else (units + one, unknown)
        return Compute(rounded(units * MILLIS), unknown)

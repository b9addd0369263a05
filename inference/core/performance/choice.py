"""Which option is taken, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inference.core.performance.options import Leg, Option

WORTH = 0.05
"""Prefill and decode are parted where that is better by this part at least: figures are not more exact, and
every part can fail."""


@dataclass(frozen=True)
class Choice:
    """The options, best first, of which the one at ``taken`` is advised; None = there is none."""

    options: tuple[Option, ...]
    taken: int | None
    reasons: tuple[str, ...]


def choose(options: Sequence[Option]) -> Choice:
    """The option that costs least; without prices for all, the one that needs the fewest devices for the load
    or, where no load is said, serves the most tokens per device."""
    if not options:
        return Choice((), None, ("no devices serve this load within its SLO",))
    priced = all(option.microcredits_per_million_output_tokens is not None for option in options)
    loaded = options[0].traffic.requests_per_second is not None
    worse = _Worse(priced, loaded)
    ranked = sorted(
        options, key=lambda one: (worse.of(one), _split(one), one.devices, one.ttft_ms, -one.capacity)
    )
    best = ranked[0]
    enough = [one for one in ranked if worse.of(one) <= worse.of(best) * (1 + WORTH)]
    taken = min(enough, key=lambda one: (_split(one), ranked.index(one)))
    return Choice(tuple(ranked), ranked.index(taken), tuple(_reasons(taken, ranked, worse)))


@dataclass(frozen=True)
class _Worse:
    """By what options are compared; less is better."""

    priced: bool
    loaded: bool

    def of(self, option: Option) -> float:
        cost = option.microcredits_per_million_output_tokens
        if self.priced and cost is not None:
            return float(cost)
        return float(option.devices) if self.loaded else 1.0 / option.tokens_per_second_per_device

    @property
    def words(self) -> str:
        if self.priced:
            return "costs least for a million tokens of answers"
        why = "prices of device time are not known for all"
        if self.loaded:
            return f"needs the fewest devices for the load ({why})"
        return f"gives the most tokens of answers per second and device ({why})"


def _reasons(taken: Option, ranked: Sequence[Option], worse: _Worse) -> list[str]:
    best = ranked[0]
    reasons = []
    if taken is best:
        reasons.append(f"{taken.mode} {worse.words}")
    else:
        more = 100 * (worse.of(taken) / worse.of(best) - 1)
        reasons.append(
            f"{taken.mode} has fewer parts, and {best.mode}, the best, is no more than "
            f"{100 * WORTH:.0f} % better ({more:.1f} %)"
        )
    other = next((one for one in ranked if (one.mode == "disaggregated") != _split(taken)), None)
    if other is not None:
        reasons.append(
            f"{taken.tokens_per_second_per_device:,.0f} tokens/s/device against "
            f"{other.tokens_per_second_per_device:,.0f} of the best {_name(other)} option"
        )
    return [*reasons, *_legs(taken, ranked)]


def _legs(taken: Option, ranked: Sequence[Option]) -> Iterator[str]:
    """Why a role is on its devices, where others could have it."""
    for leg in taken.legs if _split(taken) else ():
        others = {
            other.supply.device_class: other
            for option in reversed(ranked)
            for other in option.legs
            if other.role == leg.role and other.supply.device_class != leg.supply.device_class
        }
        if others:
            told = ", ".join(f"{_each(other):.3g} on {name}" for name, other in sorted(others.items()))
            yield f"{leg.role} on {leg.supply.device_class}: {_each(leg):.3g} requests/s a device ({told})"


def _each(leg: Leg) -> float:
    return leg.requests_per_second / leg.devices


def _split(option: Option) -> bool:
    return option.mode == "disaggregated"


def _name(option: Option) -> str:
    return "disaggregated" if _split(option) else "aggregated"

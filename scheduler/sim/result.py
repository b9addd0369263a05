"""What a simulation found, and its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from scheduler.sim.books import FAIRNESS, PENDING, STRANDED, model_series
from scheduler.sim.eta import Eta, median_error
from scheduler.sim.jobs import JobOutcome
from scheduler.sim.series import Series

SIZES = (1, 4, 8, 16, 32, 64)
"""Jobs are told apart by the devices that they ask for: less than one, up to each of these, more."""


@dataclass(frozen=True)
class Totals:
    """Device-seconds so far, of all jobs that have an end by themselves."""

    useful_device_seconds: float
    lost_device_seconds: float
    paused_device_seconds: float

    @classmethod
    def of(cls, outcomes: Iterable[JobOutcome]) -> Totals:
        every = [outcome for outcome in outcomes if outcome.seconds is not None]
        return cls(
            sum(outcome.useful_device_seconds for outcome in every),
            sum(outcome.lost_device_seconds for outcome in every),
            sum(outcome.paused_device_seconds for outcome in every),
        )

    def since(self, before: Totals) -> Totals:
        """What came on top of ``before``."""
        return Totals(
            self.useful_device_seconds - before.useful_device_seconds,
            self.lost_device_seconds - before.lost_device_seconds,
            self.paused_device_seconds - before.paused_device_seconds,
        )


@dataclass(frozen=True)
class SimResult:
    """``decisions``: how many of each kind. ``devices``: accelerators per (vendor, model).
    ``useless_preemptions``: those whose claimant did not start on what they freed, by the scheduler's own
    doing; ``voided_preemptions``: those where its withdrawal, or a change of nodes or tides, was why."""

    start_ms: int
    end_ms: int
    cycles: int
    decisions: Mapping[str, int]
    outcomes: tuple[JobOutcome, ...]
    series: Series
    devices: Mapping[tuple[str, str], int]
    totals: Totals
    etas: tuple[Eta, ...]
    useless_preemptions: int = 0
    voided_preemptions: int = 0

    @property
    def horizon_seconds(self) -> float:
        return (self.end_ms - self.start_ms) / 1000

    def utilisation(self) -> float:
        """Part of all accelerators that was held on average, 0 to 1."""
        total = sum(self.devices.values())
        held = sum(self.series.mean(model_series(*model)) for model in self.devices)
        return held / total if total else 0.0

    def utilisation_by_vendor(self) -> dict[str, float]:
        """Part of each vendor's accelerators that was held on average, 0 to 1."""
        held: dict[str, float] = {}
        total: dict[str, int] = {}
        for (vendor, model), number in self.devices.items():
            held[vendor] = held.get(vendor, 0.0) + self.series.mean(model_series(vendor, model))
            total[vendor] = total.get(vendor, 0) + number
        return {vendor: held[vendor] / number for vendor, number in total.items()}

    def jobs_by_size(self) -> dict[str, list[JobOutcome]]:
        """Those that have an end by themselves, by ``size_of``, from small to large."""
        found: dict[str, list[JobOutcome]] = {}
        for outcome in sorted(self.outcomes, key=lambda outcome: outcome.devices):
            if outcome.seconds is not None:
                found.setdefault(size_of(outcome.devices), []).append(outcome)
        return found

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON. Waits and completion times are about jobs that have an end by
        themselves."""
        jobs = [outcome for outcome in self.outcomes if outcome.seconds is not None]
        done = [o.completion_seconds for o in jobs if o.completion_seconds is not None]
        started = [outcome.waited_seconds for outcome in jobs if outcome.first_start_ms is not None]
        error = median_error(self.etas)
        return {
            "cycles": self.cycles,
            "horizon_hours": round(self.horizon_seconds / 3600, 2),
            "devices": {f"{vendor}/{model}": n for (vendor, model), n in self.devices.items()},
            "decisions": dict(sorted(self.decisions.items())),
            "useless_preemptions": self.useless_preemptions,
            "voided_preemptions": self.voided_preemptions,
            "jobs": {"submitted": len(jobs), "started": len(started), "completed": len(done)},
            "utilisation_percent": round(100 * self.utilisation(), 2),
            "utilisation_percent_by_model": {
                f"{vendor}/{model}": round(100 * self.series.mean(model_series(vendor, model)) / n, 2)
                for (vendor, model), n in self.devices.items()
            },
            "utilisation_percent_by_vendor": {
                vendor: round(100 * part, 2) for vendor, part in self.utilisation_by_vendor().items()
            },
            "wait_seconds": spread(started),
            "wait_seconds_by_queue": {name: waits(mine) for name, mine in _by_queue(jobs).items()},
            "wait_seconds_by_size": {size: waits(mine) for size, mine in self.jobs_by_size().items()},
            "completion_seconds": spread(done),
            "pending_mean": round(self.series.mean(PENDING), 2),
            "stranded_devices_mean": round(self.series.mean(STRANDED), 3),
            "fairness_jain_mean": round(self.series.mean(FAIRNESS), 4),
            "device_hours": {
                "useful": round(self.totals.useful_device_seconds / 3600, 1),
                "lost": round(self.totals.lost_device_seconds / 3600, 1),
                "paused": round(self.totals.paused_device_seconds / 3600, 1),
            },
            "eta": {
                "forecasts": len(self.etas),
                "median_relative_error_percent": None if error is None else round(100 * error, 1),
            },
        }


def size_of(devices: float) -> str:
    """For people: ``part of one``, ``1``, ``2 to 4``, …, ``over 64``."""
    if devices < 1:
        return "part of one"
    smaller = 0
    for size in SIZES:
        if devices <= size:
            return str(size) if size == smaller + 1 else f"{smaller + 1} to {size}"
        smaller = size
    return f"over {smaller}"


def waits(outcomes: Iterable[JobOutcome]) -> dict[str, float]:
    """How long those waited that have started, as ``spread`` tells it."""
    return spread([outcome.waited_seconds for outcome in outcomes if outcome.first_start_ms is not None])


def _by_queue(outcomes: Iterable[JobOutcome]) -> dict[str, list[JobOutcome]]:
    found: dict[str, list[JobOutcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.queue):
        found.setdefault(outcome.queue, []).append(outcome)
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, median, 90th and 99th percentile (nearest rank), and the largest; empty for no values."""
    if not values:
        return {}
    ordered = sorted(values)

    def rank(part: float) -> float:
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    figures = {"mean": mean(ordered), "p50": median(ordered), "p90": rank(0.9), "p99": rank(0.99)}
    return {name: round(value, 1) for name, value in {**figures, "max": ordered[-1]}.items()}

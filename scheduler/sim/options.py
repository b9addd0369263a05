"""How a simulation is run, and what is told to whom meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.errors import InvalidInput
from scheduler.core.model.types import Decision, Policy
from scheduler.core.placement.snapshot import Snapshot
from scheduler.sim.eta import Forecast

Decide = Callable[[Snapshot, Policy, int], Sequence[Decision]]
Watch = Callable[[int, Sequence[Decision]], None]


@dataclass(frozen=True)
class Options:
    """How long and how closely.

    Figures are about ``horizon_seconds``, which begin ``warmup_seconds`` after the start. Jobs that are not
    through then get ``drain_seconds`` more. ``batch_seconds``: cycles are at least so far apart (0 = one at
    each event time); while somebody waits, at most ``heartbeat_seconds``. ``spans``: points of the series.
    ``audit_every``: devices and quotas are counted anew in every so-manieth cycle. ``promises``: check that
    reservations are kept (only where estimates are upper bounds and all jobs are of one queue and
    priority). ``eta_seconds``: so far apart, starts are forecast (0 = never).
    """

    horizon_seconds: int
    warmup_seconds: int = 0
    drain_seconds: int = 0
    batch_seconds: int = 0
    heartbeat_seconds: int = 300
    spans: int = 400
    audit_every: int = 1
    promises: bool = False
    eta_seconds: int = 0
    start_ms: int | None = None

    def __post_init__(self) -> None:
        if self.horizon_seconds <= 0 or self.heartbeat_seconds <= 0 or self.audit_every <= 0:
            raise InvalidInput("horizon, heartbeat and audit are above 0", param="horizon_seconds")


@dataclass(frozen=True)
class Hooks:
    """``forecast``: says when those who wait will start. ``watch``: is told of every cycle."""

    forecast: Forecast | None = None
    watch: Watch | None = None

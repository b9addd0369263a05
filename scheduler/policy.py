"""The policy of this installation, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from common.errors import InvalidInput
from common.settings import PolicySettings
from scheduler.core.model.types import WHOLE_MILLIS, Policy
from scheduler.core.tide.tidal import SILENT_MS, Calendar, Window, parse_window, scheduled_millis, tides
from scheduler.insight.answers import TideRow
from scheduler.serving_need import Need

DATA, NEAR = "data", "near"
"""Weights that ``Policy`` keeps apart from those of scorers."""


class PolicyMaker:
    """Reads the settings once. Raises ``InvalidInput`` for an unknown weight or a window that is none."""

    def __init__(self, settings: PolicySettings, needs: Mapping[str, Need] | None = None) -> None:
        """``needs``: what inference needs by class, kept up to date by ``ServingNeed``; None = the calendar
        only."""
        defaults = Policy()
        given = dict(settings.weights)
        known = dict(defaults.weights)
        for name in given:
            if name not in (*known, DATA, NEAR):
                names = ", ".join((*known, DATA, NEAR))
                raise InvalidInput(
                    f"scheduler.policy.weights: {name} is unknown; known: {names}",
                    param="scheduler.policy.weights",
                )
        self._policy = replace(
            defaults,
            weights=tuple((name, given.get(name, weight)) for name, weight in known.items()),
            data_weight=given.get(DATA, defaults.data_weight),
            near_weight=given.get(NEAR, defaults.near_weight),
            min_run_seconds=settings.min_run_seconds,
            reserve=settings.reserve,
            preempt=settings.preempt,
            defragment=settings.defragment,
            max_moves=settings.max_moves,
            patience_seconds=settings.patience_seconds,
            topology=tuple(settings.topology),
        )
        windows: list[Window] = [
            parse_window(tide.window, tide.device_class, round(tide.inference_devices * WHOLE_MILLIS))
            for tide in settings.tides
        ]
        self._needs: Mapping[str, Need] = {} if needs is None else needs
        self._classes = {window.device_class for window in windows}
        self._calendar = Calendar(tuple(windows), settings.utc_offset_minutes)

    def at(self, now_ms: int) -> Policy:
        """The policy at this time: the same but for the tides. A class of which inference needs nothing has
        no tide."""
        services = [(need.rule, need.replicas) for need in self._needs.values()]
        found = tuple(tide for tide in tides(self._calendar, services, now_ms) if tide.inference_millis)
        return replace(self._policy, tides=found) if found else self._policy

    def tides(self, now_ms: int) -> list[TideRow]:
        """Why the tides are what they are: one row for each class that has windows or a rule, by name."""
        in_force = {tide.device_class: tide.inference_millis for tide in self.at(now_ms).tides}
        scheduled = scheduled_millis(self._calendar, now_ms)
        return [
            _row(name, in_force.get(name, 0), scheduled.get(name, 0), self._needs.get(name), now_ms)
            for name in sorted({*self._classes, *self._needs})
        ]


def _row(name: str, millis: int, scheduled: int, need: Need | None, now_ms: int) -> TideRow:
    row = TideRow(device_class=name, inference_millis=millis, calendar_millis=scheduled)
    if need is None:
        row.reason = "the calendar" if scheduled else "no window is open"
        return row
    row.load_millis = need.replicas * need.rule.replica_millis
    row.work_millis, row.expected_work_millis = (
        round(work * WHOLE_MILLIS) for work in (need.load, need.expected)
    )
    row.heard_ms = need.heard_ms
    if scheduled > row.load_millis:
        row.reason = "the calendar; load asks for less"
    else:
        row.reason = _load_reason(need, now_ms)
    return row


def _load_reason(need: Need, now_ms: int) -> str:
    if need.heard_ms is None:
        return "no engine has told its load yet"
    if now_ms - need.heard_ms > SILENT_MS:
        return "engines do not tell their load: what was known last goes on"
    within = f"{need.load:.3g} devices' worth of work, {need.expected:.3g} expected"
    return f"{within} within {need.rule.ahead_seconds / 60:.3g} min"

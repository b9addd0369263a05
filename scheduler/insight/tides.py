"""Why the tides are what they are, class by class."""

from __future__ import annotations

from scheduler.core.model.types import WHOLE_MILLIS
from scheduler.core.tide.tidal import SILENT_MS, scheduled_millis
from scheduler.insight.answers import TideRow
from scheduler.policy import PolicyMaker
from scheduler.serving_need import Need


def tide_rows(policies: PolicyMaker, now_ms: int) -> list[TideRow]:
    """One row for each class of devices that has windows or a rule, by name."""
    in_force = {tide.device_class: tide.inference_millis for tide in policies.at(now_ms).tides}
    scheduled = scheduled_millis(policies.calendar, now_ms)
    return [
        _row(name, in_force.get(name, 0), scheduled.get(name, 0), policies.needs.get(name), now_ms)
        for name in sorted({*policies.classes, *policies.needs})
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

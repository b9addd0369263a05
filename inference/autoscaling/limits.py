"""The rule that is in force for a role now: what its spec says, with the schedules that are open."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from common.resources.scaling import AutoscalingSpec, ScalingSchedule
from common.weekly import MINUTE_MS, parse_weekly
from inference.core.autoscaling.scaler import Rule
from inference.core.autoscaling.signals import Targets


def rule_of(spec: AutoscalingSpec, ttft_ms: float | None, now_ms: int) -> Rule:
    """``ttft_ms``: the Endpoint's objective, where the targets name none."""
    opened = [schedule for schedule in spec.schedules if is_open(schedule, now_ms)]
    scheduled = max((one.min_replicas for one in opened), default=0)
    least = max(spec.min_replicas, scheduled)
    most = max(
        (one.max_replicas for one in opened if one.max_replicas is not None), default=spec.max_replicas
    )
    targets = spec.targets
    return Rule(
        targets=Targets(
            requests=targets.requests_per_replica,
            queued=targets.queued_per_replica,
            kv_cache_use=targets.kv_cache_use,
            ttft_ms=targets.ttft_milliseconds or ttft_ms,
        ),
        least=least,
        most=max(least, most),
        down_after_seconds=spec.scale_down_after_seconds,
        cool_down_seconds=spec.cool_down_seconds,
        zero_after_seconds=spec.scale_to_zero_after_seconds,
        floor_reason="Schedule" if scheduled > spec.min_replicas else "Minimum",
    )


def is_open(schedule: ScalingSchedule, now_ms: int) -> bool:
    """Whether the window is open now, by the clocks on the walls of its time zone."""
    offset = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(ZoneInfo(schedule.time_zone)).utcoffset()
    minutes = offset.total_seconds() // 60 if offset is not None else 0
    return parse_weekly(schedule.window).open_at(now_ms + int(minutes) * MINUTE_MS)

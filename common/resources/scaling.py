"""How many engines an Endpoint, or a role of it, has when that follows its load."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from common.errors import InvalidInput
from common.resources.fields import Message, TimeMs
from common.resources.meta import Model as Part
from common.vocabulary import MAX_SECONDS
from common.weekly import parse_weekly

MAX_ENGINES = 1024
"""Of an endpoint, or of a role of it."""
MAX_SCHEDULES = 32
LEAST_IDLE_SECONDS = 10
"""So long engines are kept at least after the last request: what one look sees is chance."""
EngineRole = Literal["", "prefill", "decode", "canary"]
"""Empty: an engine that does both. Those of a canary do too, for the requests that are its."""
Span = Annotated[int, Field(ge=0, le=MAX_SECONDS)]


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _check_zone(name: str) -> str:
    if name not in _zones():
        raise ValueError("is no time zone; write e.g. UTC or Europe/Berlin")
    return name


def _check_window(text: str) -> str:
    try:
        parse_weekly(text)
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return text


WeeklyHours = Annotated[str, StringConstraints(max_length=100), AfterValidator(_check_window)]
"""Hours of the week, as ``common.weekly`` reads them."""
TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_zone)]
"""By its name in the IANA database; it knows of summer time."""


class ScalingSchedule(Part):
    """While the window is open there are at least, and at most, so many engines. Of several that are open the
    largest numbers count."""

    window: WeeklyHours = Field(description="such as 'Mon-Fri 08:00-20:00' or '22:00-06:00'")
    time_zone: TimeZone = Field(
        "UTC", description="of the window, by its name in the IANA database; it knows of summer time"
    )
    min_replicas: int = Field(1, ge=0, le=MAX_ENGINES, description="counts where it is above autoscaling's")
    max_replicas: int | None = Field(
        None, ge=1, le=MAX_ENGINES, description="not above autoscaling's; unset = that"
    )


class ScalingTargets(Part):
    """What one engine should have at most. More engines are asked for beyond any of them."""

    requests_per_replica: float = Field(
        32.0, ge=0.1, le=1e6, description="requests that run or wait in an engine; measure yours"
    )
    queued_per_replica: float = Field(1.0, ge=0, le=1e6, description="of them, those that wait")
    kv_cache_use: float = Field(0.8, ge=0.01, le=1, description="part of an engine's KV cache in use")
    ttft_milliseconds: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="95th percentile of times to the first token; unset = slo.ttftMilliseconds, where that "
        "is set",
    )


class AutoscalingSpec(Part):
    """Between ``min_replicas`` and ``max_replicas`` engines, as many as their load asks for."""

    min_replicas: int = Field(1, ge=0, le=MAX_ENGINES, description="0: none while nobody asks")
    max_replicas: int = Field(4, ge=1, le=MAX_ENGINES)
    targets: ScalingTargets = Field(default_factory=ScalingTargets)
    scale_down_after_seconds: Span = Field(
        300, description="an engine goes when none of the load of so long needed it"
    )
    cool_down_seconds: Span = Field(60, description="between a change and one to fewer engines")
    scale_to_zero_after_seconds: int = Field(
        900,
        ge=LEAST_IDLE_SECONDS,
        le=MAX_SECONDS,
        description="where minReplicas is 0: without a request",
    )
    schedules: list[ScalingSchedule] = Field(
        default_factory=list, max_length=MAX_SCHEDULES, description="other limits at times"
    )

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> AutoscalingSpec:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas: {self.min_replicas} is above maxReplicas, {self.max_replicas}")
        for index, schedule in enumerate(self.schedules):
            path, most = f"schedules[{index}]", schedule.max_replicas
            if most is not None and most > self.max_replicas:
                raise ValueError(
                    f"{path}.maxReplicas: {most} is above that of autoscaling, {self.max_replicas}"
                )
            if schedule.min_replicas > (most or self.max_replicas):
                raise ValueError(
                    f"{path}.minReplicas: {schedule.min_replicas} is above the most that there may be, "
                    f"{most or self.max_replicas}"
                )
        return self

    @property
    def may_sleep(self) -> bool:
        """Whether there may be no engine at some time."""
        return self.min_replicas == 0

    def bounded(self, replicas: int) -> int:
        """Within the limits that hold at all times."""
        return min(max(replicas, self.min_replicas), self.max_replicas)


class RoleScaling(Part):
    """How many engines of a role are wanted, and why: as of the last change."""

    role: EngineRole = ""
    wanted: int = 0
    reason: str = Field("", description="one CamelCase word")
    message: Message = ""
    since_ms: TimeMs = 0

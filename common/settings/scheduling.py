"""How the scheduler decides and watches its nodes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FiniteFloat, ValidationInfo, field_validator

from common.resources.pool import DeviceClass
from common.settings.section import Section


class TideSettings(Section):
    """In this window so many devices of the class are for inference; training may use the rest."""

    device_class: DeviceClass = "*"
    inference_devices: FiniteFloat = Field(ge=0)
    window: str = Field(description="such as 'Mon-Fri 08:00-20:00' or '22:00-06:00'")


class LoadTideSettings(Section):
    """So many devices of the class are for inference as the load of its engines asks for; training may use
    the rest. Where windows are open for the class too, the larger counts."""

    device_class: DeviceClass = "*"
    requests_per_replica: FiniteFloat = Field(
        32, gt=0, description="requests that run or wait in one engine when it is full"
    )
    kv_cache_limit: FiniteFloat = Field(
        0.9, gt=0, le=1, description="part of an engine's KV cache in use when it is full"
    )
    first_token_limit_seconds: FiniteFloat = Field(
        0, ge=0, description="95th percentile beyond which all its engines count as full; 0 = not looked at"
    )
    devices_per_replica: FiniteFloat = Field(
        1, ge=0.001, le=1024, description="room is made in steps of so many; as many as an engine has"
    )
    headroom: FiniteFloat = Field(0.25, ge=0, le=10, description="so much more than the load")
    ahead_seconds: int = Field(
        900, ge=0, le=7200, description="how far ahead it looks: training's grace and a model's start"
    )
    release_seconds: int = Field(
        1200, ge=0, le=7200, description="what was not needed for so long is given back to training"
    )
    least_replicas: int = Field(0, ge=0, description="room for so many is kept, whatever the load")
    most_replicas: int | None = Field(None, ge=0, description="room for no more is made; unset = no limit")

    @field_validator("most_replicas")
    @classmethod
    def _most_is_not_below_least(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("least_replicas", 0)
        if value is not None and value < least:
            raise ValueError(f"{value} is less than least_replicas ({least})")
        return value


class PolicySettings(Section):
    """How the scheduler decides; weights that are not given keep their defaults."""

    weights: dict[str, float] = Field(
        default_factory=dict,
        description=(
            "accelerator, heterogeneity, scarcity, fragmentation, packing, topology, energy, price, data,"
            " near"
        ),
    )
    min_run_seconds: int = Field(300, ge=0, description="before one of its priority may preempt a workload")
    reserve: int = Field(
        1, ge=0, description="for so many blocked workloads room is held; promises to more than one may slip"
    )
    preempt: bool = True
    defragment: bool = True
    max_moves: int = Field(8, ge=0, description="workloads moved in one cycle")
    max_delay_seconds: int = Field(
        0,
        ge=0,
        description="so long a share waits on a nearly full pool rather than leave a rest that nobody wants",
    )
    topology: list[str] = Field(
        ["computility.io/island", "computility.io/rack", "computility.io/zone"],
        description="node label keys from the closest to the widest domain",
    )
    tides: list[TideSettings] = Field(default_factory=list, description="by the calendar")
    load_tides: list[LoadTideSettings] = Field(
        default_factory=list, description="by the load of engines; a class that is not named has none"
    )
    utc_offset_minutes: int = Field(0, ge=-840, le=840, description="of the windows of tides")

    @field_validator("load_tides")
    @classmethod
    def _one_rule_per_class(cls, value: list[LoadTideSettings]) -> list[LoadTideSettings]:
        classes = [rule.device_class.lower() for rule in value]
        for name in classes:
            if classes.count(name) > 1:
                raise ValueError(f"device_class: {name} has more than one rule")
        return value


class SchedulerSettings(Section):
    """The scheduler loop and the node agents."""

    cycle_seconds: float = Field(
        0.5, gt=0, description="pause between two cycles when nothing wakes the loop"
    )
    rest_seconds: float = Field(
        10.0,
        gt=0,
        description="the same while nothing waits, starts, stops or runs to an end: only servers that are "
        "ready. Agents tell at once of what changes; by then a node that came, or fell silent, is seen",
    )
    cpu_device: Literal["auto", "always", "never"] = Field(
        "auto", description="offer a node's CPU as a device: auto = only where no accelerator is found"
    )
    device_file: str = Field("", description="YAML file that tells each node's devices instead of a probe")
    node_late_seconds: float = Field(
        5.0,
        gt=0,
        description="silence after which a node gets nothing new; what runs there is left alone",
    )
    node_lost_seconds: float = Field(20.0, gt=0, description="silence after which a node counts as lost")
    gang_environment: list[str] = Field(
        default_factory=list,
        description="names of further variables of a node's environment that engines and trainers inherit, "
        "e.g. HTTPS_PROXY; no token is, unless it is named here",
    )
    catalogue_file: str = Field("", description="YAML rows of device models, over those that come with us")
    policy: PolicySettings = PolicySettings()
    flap_backoff_seconds: float = Field(
        60.0, ge=0, description="a node that is lost twice within an hour waits so long; doubles each time"
    )
    stop_grace_seconds: float = Field(10.0, ge=0, description="between SIGTERM and SIGKILL of a gang")
    usage_interval_seconds: int = Field(
        60, gt=0, description="how often device time of running gangs is metered"
    )

"""The two worlds of the tidal bench: silos with a fixed split, and one pool with a tide. Same load, same
jobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.job_traces import Sample, sample_jobs
from bench.tidal_serving import DAY_SECONDS, Hour, scaled, weeks_of
from common.errors import InvalidInput
from common.units import GIB
from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import (
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Request,
    RoleView,
    WorkloadView,
)
from scheduler.core.tide.tidal import LoadRule, LoadSample
from scheduler.sim.engine import simulate
from scheduler.sim.habits import queues_of
from scheduler.sim.jobs import SECOND_MS, Job
from scheduler.sim.options import Options
from scheduler.sim.result import SimResult
from scheduler.sim.serving import Load, Served, Service, ServiceSpec, samples_of, serve_statically

VENDOR, MODEL, MEMORY_BYTES = "nvidia", "A100-SXM4-80GB", 80 * GIB
DEVICES_PER_NODE = 8
HISTORY_DAYS = 7
"""So much load has been seen before: the silo is sized by it, the autoscaler forecasts from it."""
WARMUP_DAYS = 1
"""Both worlds fill before figures are taken."""
DRAIN_DAYS = 21
"""After the measured days jobs get so long to end; the load goes on."""
PEAK_QUANTILE = 0.999
"""Of the minutes of the history; the silo's serving part is that load plus the headroom."""
BOUND_SECONDS = 1.0
"""The SLO: a request waits no longer for a replica (the queueing part of the time to first token)."""
LOAD_SECONDS = 90
"""Until a started replica is ready: 16 GB of weights from a local disk, and warming up."""
LONGEST_SECONDS = 48 * 3600.0
SERVING_PRIORITY = 100


@dataclass(frozen=True)
class Setting:
    """``serving_share`` of the devices is the silo's serving part. ``training_load``: what jobs ask for, as
    a part of what the load leaves of the pool on average. ``elastic_part``: of the jobs with two ranks and
    more."""

    devices: int = 160
    serving_share: float = 0.6
    days: int = 4
    headroom: float = 0.25
    training_load: float = 1.0
    elastic_part: float = 0.5
    forecast: bool = True
    batch_seconds: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if self.devices < 4 * DEVICES_PER_NODE or not 0 < self.serving_share < 1 or self.days < 1:
            raise InvalidInput(
                "a pool of 32 devices and more, both parts of it, a day and more", param="devices"
            )

    @property
    def serving_devices(self) -> int:
        """Of the silo: whole nodes."""
        nodes = round(self.devices * self.serving_share / DEVICES_PER_NODE)
        return min(max(nodes, 1) * DEVICES_PER_NODE, self.devices - DEVICES_PER_NODE)

    @property
    def training_devices(self) -> int:
        return self.devices - self.serving_devices

    @property
    def measured(self) -> range:
        """The seconds that figures are about."""
        return range(WARMUP_DAYS * DAY_SECONDS, (WARMUP_DAYS + self.days) * DAY_SECONDS)


@dataclass(frozen=True)
class Story:
    """What both worlds are given."""

    setting: Setting
    load: Load
    history: list[LoadSample]
    work_per_request: float
    sample: Sample

    @property
    def jobs(self) -> list[Job]:
        return self.sample.jobs


@dataclass(frozen=True)
class World:
    """What came of it. Device-seconds are of the measured days."""

    devices: int
    served: Served
    result: SimResult

    @property
    def useful_device_seconds(self) -> float:
        """Training progress that lasts, and serving work done."""
        return self.result.totals.useful_device_seconds + self.served.busy_device_seconds

    @property
    def utilisation(self) -> float:
        return self.useful_device_seconds / (self.devices * self.result.horizon_seconds)

    @property
    def completion_seconds(self) -> list[float]:
        """Of all jobs; one that has not ended counts until now."""
        ends = [o for o in self.result.outcomes if o.seconds is not None]
        last = max((o.ended_ms or 0 for o in ends), default=0)
        return [((o.ended_ms or last) - o.submitted_ms) / SECOND_MS for o in ends]


def tell(setting: Setting, hour: Hour, trace: Sequence[Job]) -> Story:
    """Load and jobs for these sizes."""
    days = HISTORY_DAYS + setting.measured.stop // DAY_SECONDS + DRAIN_DAYS
    whole = weeks_of(hour, days, -HISTORY_DAYS * DAY_SECONDS * SECOND_MS, setting.seed)
    split = HISTORY_DAYS * DAY_SECONDS
    minutes = whole.work[:split].reshape(-1, 60).mean(axis=1)
    peak = float(np.quantile(minutes, PEAK_QUANTILE)) * (1 + setting.headroom)
    whole = scaled(whole, setting.serving_devices / peak)
    before = Load(whole.start_ms, whole.work[:split], whole.requests[:split])
    load = Load(0, whole.work[split:], whole.requests[split:])
    until = setting.measured.stop
    measured = float(load.work[:until].mean())
    left = setting.devices - measured * (1 + setting.headroom)
    sample = sample_jobs(
        trace,
        until // DAY_SECONDS,
        setting.training_load * left * until,
        setting.training_devices // 2,
        LONGEST_SECONDS,
        setting.seed,
    )
    history = samples_of(before, hour.work_per_request)
    return Story(setting, load, history, hour.work_per_request, sample)


def silo_world(story: Story) -> World:
    """Serving has its part all the time; training has the rest, under the same scheduler."""
    setting = story.setting
    served = serve_statically(story.load, setting.serving_devices, BOUND_SECONDS, setting.measured)
    result = simulate(
        nodes_of(setting.training_devices),
        queues_of(story.jobs),
        story.jobs,
        Policy(),
        _options(setting),
        run_cycle,
    )
    return World(setting.devices, served, result)


def tidal_world(story: Story) -> World:
    """One pool: an autoscaler asks for replicas ahead of the load, training has what it leaves."""
    setting = story.setting
    history = story.history if setting.forecast else []
    service = Service(_service(story), story.load, history, setting.measured)
    result = simulate(
        nodes_of(setting.devices),
        [*queues_of(story.jobs), QueueView("serving")],
        story.jobs,
        Policy(),
        _options(setting),
        run_cycle,
        actors=[service],
    )
    return World(setting.devices, service.served, result)


def nodes_of(devices: int) -> list[NodeView]:
    """Nodes of eight."""
    return [
        NodeView(
            f"node-{number:04d}",
            tuple(
                DeviceView(f"node-{number:04d}/{n}", n, VENDOR, MODEL, MEMORY_BYTES)
                for n in range(DEVICES_PER_NODE)
            ),
        )
        for number in range(math.ceil(devices / DEVICES_PER_NODE))
    ]


def _options(setting: Setting) -> Options:
    return Options(
        horizon_seconds=len(setting.measured),
        warmup_seconds=setting.measured.start,
        drain_seconds=DRAIN_DAYS * DAY_SECONDS,
        batch_seconds=setting.batch_seconds,
        audit_every=20,
        start_ms=0,
    )


def _service(story: Story) -> ServiceSpec:
    replica = WorkloadView(
        uid="serve",
        project="serving",
        name="serve",
        queue="serving",
        priority=SERVING_PRIORITY,
        created_ms=0,
        roles=(RoleView("engine", 1, Request(count=1)),),
        preemptible=False,
        kind="inference",
    )
    setting = story.setting
    rule = LoadRule(
        device_class=VENDOR,
        load_per_replica=1 / story.work_per_request,
        headroom=setting.headroom,
        ahead_seconds=2 * LOAD_SECONDS + 3 * setting.batch_seconds if setting.forecast else 0,
        p95_limit_seconds=BOUND_SECONDS / 2,
        most_replicas=setting.devices,
    )
    return ServiceSpec(replica, rule, BOUND_SECONDS, story.work_per_request, LOAD_SECONDS)


def figures(silo: World, tidal: World) -> dict[str, Any]:
    """The comparison. Utilisation: useful device-seconds of all device-seconds."""
    mean = [float(np.mean(world.completion_seconds)) for world in (silo, tidal)]
    return {
        "utilisation_gain_percent": round(100 * (tidal.utilisation / silo.utilisation - 1), 1),
        "jct_ratio": round(mean[0] / mean[1], 2),
        "slo_attainment": {
            "tidal": round(tidal.served.attainment, 6),
            "silo": round(silo.served.attainment, 6),
        },
        "worlds": {"silo": details(silo), "tidal": details(tidal)},
    }


def details(world: World) -> dict[str, Any]:
    """How a world spent its device time, and how its jobs fared."""
    total = world.devices * world.result.horizon_seconds
    totals, times = world.result.totals, world.completion_seconds
    jobs = [outcome for outcome in world.result.outcomes if outcome.seconds is not None]
    return {
        "utilisation_percent": round(100 * world.utilisation, 2),
        "training_percent": round(100 * totals.useful_device_seconds / total, 2),
        "serving_percent": round(100 * world.served.busy_device_seconds / total, 2),
        "held_by_serving_percent": round(100 * world.served.held_device_seconds / total, 2),
        "lost_percent": round(100 * totals.lost_device_seconds / total, 2),
        "paused_percent": round(100 * totals.paused_device_seconds / total, 2),
        "jct_mean_hours": round(float(np.mean(times)) / 3600, 2),
        "jct_median_hours": round(float(np.median(times)) / 3600, 3),
        "wait_mean_hours": round(float(np.mean([o.waited_seconds for o in jobs])) / 3600, 2),
        "not_ended": sum(outcome.ended_ms is None for outcome in jobs),
        "preemptions": sum(outcome.preemptions for outcome in jobs),
        "resizes": sum(outcome.resizes for outcome in jobs),
        "cycles": world.result.cycles,
    }

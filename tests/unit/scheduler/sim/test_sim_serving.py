"""A served model in the simulator: the queue, the SLO, and replicas that come and go with the load."""

import numpy as np
import pytest

from common.errors import InvalidInput
from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import Policy, QueueView, Request, RoleView, WorkloadView
from scheduler.core.tide.tidal import LoadRule
from scheduler.sim.engine import simulate
from scheduler.sim.options import Options
from scheduler.sim.serving import Load, Service, ServiceSpec, samples_of, serve_statically
from tests.unit.scheduler.sim_build import gpu_job, gpu_node

REPLICA = WorkloadView(
    "serve",
    "p",
    "serve",
    "serving",
    100,
    0,
    (RoleView("engine", 1, Request(vendors=("nvidia",))),),
    preemptible=False,
    kind="inference",
)


def load_of(*parts: tuple[int, float]) -> Load:
    """Seconds and device-seconds of work per second; a request is half a device-second."""
    work = np.concatenate([np.full(seconds, rate) for seconds, rate in parts])
    return Load(0, work, work * 2)


def spec(**more: object) -> ServiceSpec:
    rule = LoadRule("nvidia", load_per_replica=2.0, headroom=0.25, ahead_seconds=120, release_seconds=300)
    return ServiceSpec(REPLICA, rule, bound_seconds=1.0, work_per_request=0.5, load_seconds=30, **more)  # type: ignore[arg-type]


def test_enough_replicas_keep_the_slo_and_too_few_do_not() -> None:
    load = load_of((100, 3.0))
    assert serve_statically(load, 3, 1.0).attainment == 1.0
    assert serve_statically(load, 3, 1.0).busy_device_seconds == pytest.approx(300)
    few = serve_statically(load, 2, 1.0)
    # the backlog grows by 1 per second: after 2 s it is worth a second of both replicas
    assert few.attainment == pytest.approx(0.02)
    assert few.busy_device_seconds == pytest.approx(200)
    assert serve_statically(load, 0, 1.0).attainment == 0.0


def test_a_burst_is_worked_off() -> None:
    served = serve_statically(load_of((10, 1.0), (1, 9.0), (30, 1.0)), 3, 1.0)
    # 6 are left after its second, then 4 and 2: later than a second's work of 3 replicas in two of them
    assert served.attainment == pytest.approx(1 - (9 + 1) / 49)
    assert served.held_device_seconds == 3 * 41


def test_figures_are_about_the_measured_time() -> None:
    load = load_of((50, 1.0), (50, 9.0))
    assert serve_statically(load, 2, 1.0, range(50)).attainment == 1.0
    assert serve_statically(load, 2, 1.0, range(60, 100)).attainment == 0.0


def test_a_load_is_about_seconds() -> None:
    with pytest.raises(InvalidInput):
        Load(0, np.ones(3), np.ones(4))


def test_samples_are_requests_per_second_of_whole_minutes() -> None:
    samples = samples_of(load_of((60, 1.0), (90, 3.0)), work_per_request=0.5)
    assert [(s.at_ms, s.load) for s in samples] == [(60_000, 2.0), (120_000, 6.0)]


def test_replicas_follow_the_load_and_training_gives_way_without_eviction() -> None:
    load = load_of((1800, 1.0), (1800, 5.0), (3600, 1.0))
    # yesterday was the same, so the rise is foreseen
    yesterday = Load(-24 * 3600 * 1000, load.work, load.requests)
    service = Service(spec(), load, samples_of(yesterday, 0.5))
    elastic = gpu_job("train", 8, 7200, least=1)
    result = simulate(
        [gpu_node("a"), gpu_node("b")],
        [QueueView("default"), QueueView("serving")],
        [elastic],
        Policy(),
        Options(7200, start_ms=0, spans=72, batch_seconds=10),
        run_cycle,
        actors=[service],
    )
    train = next(o for o in result.outcomes if o.name == "train")
    assert train.preemptions == 0
    assert train.resizes == 2
    assert service.served.attainment == 1.0
    inference, training = result.series.values["inference"], result.series.values["training"]
    assert inference[5] == pytest.approx(2)
    assert inference[25] == pytest.approx(7)
    assert training[25] == pytest.approx(1)
    assert inference[-1] == pytest.approx(2)
    assert training[-1] == pytest.approx(6)
    assert (inference + training).max() <= 8 + 1e-9

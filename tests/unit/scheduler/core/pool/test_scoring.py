"""Where ranks without devices go: host CPU on accelerator nodes is what the accelerators need."""

from dataclasses import replace

import pytest

from scheduler.core.cycle import run_cycle
from scheduler.core.fragmentation.workload_mix import workload_mix_of
from scheduler.core.model.catalogue import Catalogue, DeviceSpec
from scheduler.core.model.types import Admit, Assignment, NodeView, Policy, QueueView, RunningView
from scheduler.core.placement.snapshot import take_snapshot
from tests.unit.scheduler.build import GIB, NOW_MS, gpu, holding, node, role, workload

pytestmark = pytest.mark.unit

USUAL_GPU = workload("usual", role(count=1, cpu_millis=8000, vendors=("nvidia",)))
HOST_ONLY = workload("host", role(count=0, cpu_millis=16_000))


def goes_to(nodes: list[NodeView], *running: RunningView) -> str:
    snapshot = take_snapshot(nodes, [QueueView("default")], [HOST_ONLY], running)
    (decision,) = run_cycle(replace(snapshot, workload_mix=workload_mix_of([USUAL_GPU])), Policy(), NOW_MS)
    assert isinstance(decision, Admit)
    return decision.placement[0].node


def on_host(name: str, at: NodeView, cpu_millis: int) -> RunningView:
    return RunningView(workload(name), (Assignment("main", 0, 0, at.name, (), cpu_millis),), 0)


def test_cpu_is_taken_where_free_accelerators_do_not_need_it() -> None:
    """The busier host is the one whose free GPUs need what is left of it."""
    tight = node("a", gpu(0), gpu(1), cpu_millis=24_000)
    spare = node("b", gpu(0), gpu(1), cpu_millis=64_000)
    assert goes_to([tight, spare]) == "b"
    assert goes_to([tight, spare], holding("x", tight, 0, 1)) == "a", "all its GPUs are given out"


def test_nodes_without_accelerators_come_first_and_the_fullest_of_them() -> None:
    accelerated = node("a", gpu(0), cpu_millis=64_000)
    empty, used = node("b", cpu_millis=64_000), node("c", cpu_millis=64_000)
    assert goes_to([accelerated, empty, used], on_host("y", used, 16_000)) == "c"
    assert goes_to([accelerated, empty, used], on_host("y", used, 56_000)) == "b"


@pytest.mark.parametrize("scorer", ["energy", "price"])
def test_watts_and_money_count_for_all_devices_that_a_request_takes(scorer: str) -> None:
    """Four small devices at 150 W do what one large at 400 W does; one small and one large do alike for who
    asks for one device."""
    catalogue = Catalogue(
        (
            DeviceSpec("small", "nvidia", ("small",), watts=150, price_micros_per_hour=150),
            DeviceSpec("large", "nvidia", ("large",), watts=400, price_micros_per_hour=400),
        )
    )
    nodes = [
        node("a", *(gpu(i, model="small", gib=20) for i in range(4))),
        node("b", *(gpu(i, model="large", gib=80) for i in range(4))),
    ]
    for asked, model in ((role(count=0, total_memory_bytes=80 * GIB), "large"), (role(), "small")):
        snapshot = take_snapshot(nodes, [QueueView("default")], [workload("one", asked)], (), (), catalogue)
        (decision,) = run_cycle(snapshot, Policy(weights=((scorer, 1.0),)), NOW_MS)
        assert isinstance(decision, Admit)
        assert decision.placement[0].shares[0].model == model

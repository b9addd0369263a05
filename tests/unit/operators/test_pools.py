"""How many nodes a pool should have."""

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.core.pools import Demand, Need, Pool, PoolNode, Resize, Shape, demand_of, resize, tried

NOW, COOL = 1000.0, 300.0
H100 = Shape("nvidia", "H100", devices=8, memory_bytes=80 << 30, cpu_millis=96_000)
FAST = replace(H100, capabilities=frozenset(("fp8",)), tflops=(("bf16", 989.0),))
CPU = Shape("cpu", devices=4, cpu_millis=4000)


def pool(name: str = "gpu", replicas: int = 0, nodes: tuple[PoolNode, ...] = (), **changes: Any) -> Pool:
    given: dict[str, Any] = {"least": 0, "most": 4, "shape": H100, "nodes": nodes}
    return Pool(name, replicas, **{**given, **changes})


def need(devices: int = 8, **changes: Any) -> Need:
    return Need(millis=devices * 1000, **changes)


def demand(*ranks: Need, key: str = "team/job") -> Demand:
    return Demand(key, ranks)


def idle(ordinal: int, seconds: float = 500, is_draining: bool = False) -> PoolNode:
    return PoolNode(f"gpu-{ordinal}", ordinal, NOW - seconds, is_draining)


def busy(ordinal: int) -> PoolNode:
    return PoolNode(f"gpu-{ordinal}", ordinal)


class Case(NamedTuple):
    pool: Pool
    demands: tuple[Demand, ...]
    replicas: int
    drain: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


CASES = {
    "nothing waits": Case(pool(), (), 0),
    "one node for what waits": Case(pool(), (demand(need()),), 1),
    "a gang over three": Case(pool(), (demand(need(), need(), need()),), 3),
    "two share one": Case(pool(), (demand(need(4)), demand(need(4))), 1),
    "beside what runs": Case(pool(replicas=1, nodes=(busy(0),)), (demand(need()),), 2),
    "one is on its way already": Case(pool(replicas=1), (demand(need()),), 1),
    "one is idle already": Case(pool(replicas=1, nodes=(idle(0, 5),)), (demand(need()),), 1),
    "not beyond the most": Case(pool(), (demand(*[need()] * 5),), 0),
    "what fits goes, though what came before does not": Case(
        pool(), (demand(*[need()] * 5), demand(need())), 1
    ),
    "too large for any node": Case(pool(), (demand(need(9)),), 0),
    "another vendor": Case(pool(), (demand(need(vendors=("ascend",))),), 0),
    "another model": Case(pool(), (demand(need(models=("A100",))),), 0),
    "this model": Case(pool(), (demand(need(models=("h100",))),), 1),
    "not this model": Case(pool(), (demand(need(not_models=("H100",))),), 0),
    "too much memory": Case(pool(), (demand(need(memory_bytes=81 << 30)),), 0),
    "labels that it lacks": Case(pool(), (demand(need(labels=(("a", "b"),))),), 0),
    "cores add up": Case(pool(), (demand(need(1, cpu_millis=60_000), need(1, cpu_millis=60_000)),), 2),
    "idle, but not for long": Case(pool(replicas=1, nodes=(idle(0, 200),)), (), 1),
    "idle for long: drained first": Case(pool(replicas=1, nodes=(idle(0),)), (), 1, ("gpu-0",)),
    "drained: taken": Case(pool(replicas=1, nodes=(idle(0, is_draining=True),)), (), 0),
    "not below the least": Case(pool(replicas=1, least=1, nodes=(idle(0),)), (), 1),
    "up to the least": Case(pool(replicas=0, least=2), (), 2),
    "up to the least, also while something waits": Case(
        pool(replicas=1, least=3, nodes=(idle(0),)), (demand(need()),), 3
    ),
    "only from the end": Case(pool(replicas=2, nodes=(idle(0), busy(1))), (), 2),
    "one after the other": Case(
        pool(replicas=3, nodes=(busy(0), idle(1), idle(2, is_draining=True))), (), 2, ("gpu-1",)
    ),
    "one that has not joined stays": Case(pool(replicas=2, nodes=(idle(0),)), (), 2),
    "one that is late is on its way no longer": Case(
        pool(replicas=1, absent=((0, NOW - 900),)), (demand(need()),), 2
    ),
    "one that is not late is": Case(pool(replicas=1, absent=((0, NOW - 899),)), (demand(need()),), 1),
    "one that never came is taken": Case(
        pool(replicas=2, nodes=(idle(0),), absent=((1, NOW - 900),)), (), 1, ("gpu-0",)
    ),
    "one that may come stays": Case(pool(replicas=2, nodes=(idle(0),), absent=((1, NOW - 899),)), (), 2),
    "capable of it": Case(
        pool(shape=FAST), (demand(need(capabilities=("fp8",), tflops=900, dtype="bf16")),), 1
    ),
    "not known to be capable": Case(pool(), (demand(need(capabilities=("fp8",))),), 0),
    "not known to be fast": Case(pool(), (demand(need(tflops=1, dtype="bf16")),), 0),
    "drained, but wanted again": Case(
        pool(replicas=1, nodes=(idle(0, is_draining=True),)), (demand(need()),), 1, (), ("gpu-0",)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_resize(case: Case) -> None:
    [found] = resize([case.pool], case.demands, NOW, COOL)
    assert (found.replicas, found.drain, found.keep) == (case.replicas, case.drain, case.keep)


def test_the_pool_that_has_room_comes_first() -> None:
    pools = [pool("a"), pool("b", replicas=1), pool("c", shape=CPU)]
    grown = resize(pools, [demand(need(), key="team/x")], NOW, COOL)
    assert [one.replicas for one in grown] == [0, 1, 0]
    assert grown[1].reason == "for team/x"


needs = st.builds(need, st.integers(1, 9), cpu_millis=st.integers(0, 100_000))
demands = st.lists(
    st.builds(lambda ranks: demand(*ranks), st.lists(needs, min_size=1, max_size=4)), max_size=6
)
nodes = st.lists(st.sampled_from(["busy", "idle", "drained"]), max_size=4)


@given(demands, nodes, st.integers(0, 3), st.integers(0, 6))
def test_always_within_limits_and_never_from_under_what_runs(
    waiting: list[Demand], kinds: list[str], coming: int, least: int
) -> None:
    there = tuple(
        busy(i) if kind == "busy" else idle(i, is_draining=kind == "drained") for i, kind in enumerate(kinds)
    )
    most = max(least, 6, len(there) + coming)
    before = pool(replicas=len(there) + coming, nodes=there, least=least, most=most)
    [found] = resize([before], waiting, NOW, COOL)
    assert min(least, before.replicas) <= found.replicas <= most
    last_busy = max((int(node.place) for node in there if node.idle_since_seconds is None), default=-1)
    assert found.replicas > last_busy
    assert not set(found.drain) & {node.name for node in there if node.idle_since_seconds is None}
    assert resize([before], waiting, NOW, COOL) == [found]


def workload(code: str = "DevicesBusy", phase: str = "Pending", **devices: Any) -> dict[str, Any]:
    role = {"name": "r", "replicas": 2, "devices": {"count": 8, **devices}}
    return {
        "metadata": {"name": "job", "project": "team"},
        "spec": {"roles": [role]},
        "status": {"phase": phase, "pending": [{"code": code, "message": ""}]},
    }


def test_what_waits_for_devices_is_a_demand() -> None:
    assert demand_of(workload(vendors=["nvidia"])) == demand(*[need(vendors=("nvidia",))] * 2)
    for code in ("QuotaExhausted", "IllegalCount", "TopologyBusy", "AntiAffinity"):
        assert demand_of(workload(code)) is None
    assert demand_of({"metadata": {"name": "j"}, "status": None}) is None
    assert demand_of(workload(phase="Running")) is None
    assert demand_of(workload(equivalence={"tflops": 1})) is None


def test_nothing_to_do_is_the_same() -> None:
    assert resize([], [demand(need())], NOW, COOL) == []
    assert resize([pool(replicas=1, nodes=(busy(0),))], [], NOW, COOL) == [Resize("gpu", 1)]


@pytest.mark.parametrize(
    ("waits", "node", "want"),
    [
        (COOL, idle(0, COOL), True),
        (COOL - 1, idle(0, COOL), False),
        (COOL, idle(0, COOL - 1), False),
        (COOL, idle(0, COOL, is_draining=True), False),
        (COOL, busy(0), False),
    ],
)
def test_what_does_not_start_though_there_is_room_for_long_waits_for_something_else(
    waits: float, node: PoolNode, want: bool
) -> None:
    waiting = replace(demand(need()), since_seconds=NOW - waits)
    larger = replace(demand(need(), need()), since_seconds=NOW - waits)
    found = tried([pool(replicas=1, nodes=(node,))], [waiting, larger, demand(need())], NOW, COOL)
    assert found == ([waiting] if want else [])

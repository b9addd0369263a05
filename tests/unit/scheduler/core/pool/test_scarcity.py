"""Devices that others can use nothing else than are left to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from scheduler.core.cycle import run_cycle
from scheduler.core.explain.kept_off import kept_off
from scheduler.core.fragmentation.linear import shadow_prices
from scheduler.core.fragmentation.workload_mix import workload_mix_of
from scheduler.core.model.types import Admit, NodeView, Placement, Policy, QueueView, Request, WorkloadView
from scheduler.core.placement.snapshot import Snapshot, take_snapshot
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.stock import MAX_CLASSES, DeviceClass
from tests.unit.scheduler.build import GIB, NOW_MS, gpu, node, role, workload

pytestmark = pytest.mark.unit

FLEXIBLE = workload("flexible", role())
POLICY = Policy(weights=(("scarcity", 1.0), ("fragmentation", 4.0)))


def pool_of(*models: str, gib: int = 80, **more: Any) -> list[NodeView]:
    """Nodes of four devices, the first model's first in the order."""
    return [
        node(f"n{number}-{model}", *(gpu(i, model=model, gib=gib) for i in range(4)), **more)
        for number, model in enumerate(models)
    ]


def many(number: int, *, queue: str = "default", **request: Any) -> WorkloadView:
    """What usually comes: so many ranks of this request."""
    return workload(f"usual-{queue}-{number}-{request}", role(number, **request), queue=queue)


def scene(nodes: list[NodeView], *usual: WorkloadView, one: WorkloadView = FLEXIBLE) -> Snapshot:
    return replace(take_snapshot(nodes, [QueueView("default")], [one]), workload_mix=workload_mix_of(usual))


def placed(snapshot: Snapshot) -> Placement:
    (decision,) = run_cycle(snapshot, POLICY, NOW_MS)
    assert isinstance(decision, Admit)
    return decision.placement


def goes_to(nodes: list[NodeView], *usual: WorkloadView, one: WorkloadView = FLEXIBLE) -> str:
    return placed(scene(nodes, *usual, one=one))[0].shares[0].model


@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [
        pytest.param({"models": ("A10",)}, pool_of("A10", "L20"), id="by-name"),
        pytest.param({"models": ("A10", "T4")}, pool_of("A10", "L20", "T4"), id="one-of-two-names"),
        pytest.param({"not_models": ("L20",)}, pool_of("A10", "L20"), id="not-the-other"),
        pytest.param(
            {"memory_bytes": 40 * GIB}, [*pool_of("A10"), *pool_of("L20", "L20", gib=24)[1:]], id="memory"
        ),
        pytest.param(
            {"node_labels": (("zone", "a"),)},
            [*pool_of("A10", labels=(("zone", "a"),)), *pool_of("A10", "L20")[1:]],
            id="label",
        ),
        pytest.param(
            {"vendors": ("amd",)},
            [node("n0", *(gpu(i, vendor="amd", model="A10") for i in range(4))), *pool_of("A10", "L20")[1:]],
            id="vendor",
        ),
        pytest.param(
            {"cpu_millis": 60_000},
            [*pool_of("A10", cpu_millis=64_000), *pool_of("A10", "L20", cpu_millis=32_000)[1:]],
            id="host-cpu",
        ),
    ],
)
def test_who_can_go_elsewhere_leaves_devices_to_those_who_cannot(
    wanted: dict[str, Any], nodes: list[NodeView]
) -> None:
    """Nobody asks for it: the first node. Four fifths of it are asked for: the other one."""
    assert goes_to(nodes, many(8)) == "A10"
    assert goes_to(nodes, many(4), many(4, **wanted)) == "L20"


def test_who_needs_a_scarce_device_gets_it() -> None:
    nodes, usual = pool_of("A10", "L20"), (many(4), many(4, models=("A10",)))
    assert goes_to(nodes, *usual, one=workload("picky", role(models=("A10",)))) == "A10"


def test_of_two_scarce_models_the_less_scarce_one_is_taken() -> None:
    nodes = pool_of("A10", "L20")
    usual = (many(4), many(3, models=("A10",)), many(1, models=("L20",)))
    assert goes_to(nodes, *usual) == "L20"


def test_a_full_pool_of_others_does_not_keep_it_off() -> None:
    """Prices order places, they close none."""
    nodes, usual = pool_of("A10"), (many(4), many(4, models=("A10",)))
    assert goes_to(nodes, *usual) == "A10"


def test_the_order_in_which_the_mix_was_seen_does_not_matter() -> None:
    nodes = pool_of("A10", "L20", "T4")
    usual = [many(5), many(3, models=("A10",)), many(2, models=("T4", "L20")), many(4, share_millis=500)]
    prices = [prices_of(nodes, *order) for order in (usual, usual[::-1])]
    assert prices[0] == prices[1]


def prices_of(nodes: list[NodeView], *usual: WorkloadView) -> dict[str, float]:
    pool = Pool(nodes)
    pool.use(POLICY, workload_mix_of(usual))
    request = role().request
    return {
        group.model: pool.scarcity.cost(group, usage.layout, request)
        for usage in pool.usage
        for group in usage.layout.groups
    }


def test_what_nobody_names_costs_alike() -> None:
    assert len(set(prices_of(pool_of("A10", "L20", "T4"), many(5), many(3, share_millis=500)).values())) == 1


@pytest.mark.parametrize("count", [1, 4])
def test_a_model_that_is_asked_for_by_name_costs_more_whatever_cpu_it_takes(count: int) -> None:
    """CPU counts by device, however many devices are asked for."""
    nodes = [*pool_of("A10", cpu_millis=32_000), *pool_of("A10", "L20", cpu_millis=64_000)[1:]]
    costs = [
        prices_of(nodes, many(8), many(4, models=("A10",), count=count, cpu_millis=cpu_millis))
        for cpu_millis in (4_000, 8_000)
    ]
    assert all(cost["A10"] > cost["L20"] for cost in costs)
    assert costs[1]["A10"] > costs[0]["A10"]


def test_a_device_that_is_asked_for_more_often_costs_more() -> None:
    costs = [
        prices_of(pool_of("A10", "L20", "L20", "L20"), many(8), many(asked, models=("A10",)))["A10"]
        for asked in (0, 2, 8)
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1] - 0.2


def test_of_few_devices_among_many_only_a_clear_price_counts() -> None:
    """What two nodes of a hundred and more are worth hangs on single requests."""
    few, half = pool_of(*["A10"] * 1, *["L20"] * 120), pool_of(*["A10", "L20"] * 60)
    assert prices_of(few, many(500), many(1, models=("A10",)))["A10"] == 0
    assert prices_of(few, many(500), many(8, models=("A10",)))["A10"] > 0.15
    assert 0 < prices_of(half, many(500), many(130, models=("A10",)))["A10"] < 0.15


def test_a_node_that_comes_or_goes_asks_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for what of which devices is worked out for a mix and the kinds of nodes, once."""
    asked: list[Request] = []
    count = DeviceClass.count

    def counted(one: DeviceClass, request: Request, cpu_millis: int) -> int | None:
        asked.append(request)
        return count(one, request, cpu_millis)

    monkeypatch.setattr(DeviceClass, "count", counted)
    nodes, usual = pool_of(*["A10", "L20"] * 20), workload_mix_of([many(40), many(30, models=("A10",))])
    pool = Pool(nodes)
    pool.use(POLICY, usual)
    before = pool.scarcity.prices
    assert asked
    asked.clear()
    pool.set_node(replace(nodes[0], alive=False))
    pool.set_node(replace(nodes[1], alive=False))
    assert pool.scarcity.prices == before
    assert not asked
    pool.set_node(node("new", gpu(0, model="T4")))
    assert len(pool.scarcity.prices) == 3


def test_equivalence_counts_the_devices_that_it_takes() -> None:
    """Half of the compute is on the small model, at two devices for one: it is as good as the large one."""
    pool = Pool([*pool_of("A10", gib=40), *pool_of("A10", "L20", "L20")[1:]])
    pool.use(POLICY, workload_mix_of([many(4, count=0, total_memory_bytes=80 * GIB), many(1)]))
    request = role(count=0, total_memory_bytes=80 * GIB).request
    layouts = {usage.layout.groups[0].memory_mebibytes >> 10: usage.layout for usage in pool.usage}
    assert pool.scarcity.counts(request) == {0: 2, 1: 1}
    costs = {gib: pool.scarcity.cost(layout.groups[0], layout, request) for gib, layout in layouts.items()}
    assert all(-1 <= cost <= 1 for cost in costs.values())


def test_many_kinds_of_devices_and_requests_are_told_apart_less_finely() -> None:
    models = [f"M{number}" for number in range(2 * MAX_CLASSES)]
    usual = [many(1 + n % 3, models=(model,), cpu_millis=1000 << n % 5) for n, model in enumerate(models)]
    usual += [many(n, models=tuple(models[: 2 + n])) for n in range(1, 40)]
    costs = prices_of(pool_of(*models, cpu_millis=256_000), *usual, many(40))
    assert len(costs) == len(models)
    assert all(-1 <= cost <= 1 for cost in costs.values())


def test_prices_stay_when_one_node_of_many_goes() -> None:
    nodes = pool_of(*["A10"] * 40, *["L20"] * 60)
    usual = (many(40), many(30, models=("A10",)))
    assert prices_of(nodes, *usual) == prices_of(nodes[1:], *usual)


def test_it_is_said_what_a_workload_was_kept_off_and_for_whom() -> None:
    usual = (many(4), many(1, models=("A10",), queue="rare"), many(4, models=("A10",), queue="vision"))
    snapshot = scene(pool_of("A10", "L20"), *usual)
    places = placed(snapshot)
    assert kept_off(snapshot.pool, FLEXIBLE, places) == ["kept off A10: wanted by name by queue vision"]
    picky = workload("picky", role(models=("L20",)))
    assert kept_off(snapshot.pool, picky, places) == []
    assert kept_off(Pool([]), FLEXIBLE, places) == []


amounts = st.integers(0, 4).map(float)


@given(
    st.integers(1, 5).flatmap(
        lambda rows: st.tuples(
            st.lists(st.lists(amounts, min_size=rows, max_size=rows).filter(any), min_size=1, max_size=8),
            st.lists(st.lists(amounts, min_size=rows, max_size=rows), min_size=1, max_size=4),
        )
    ),
    st.data(),
)
def test_prices_are_the_least_that_pay_for_everything(
    program: tuple[list[list[float]], list[list[float]]], data: st.DataObject
) -> None:
    """Duality: nothing is worth more than what it takes, and all that is limited is worth as much as can be
    done with it at best."""
    columns, limits = np.array(program[0]).T, np.array(program[1]).T
    values = np.array(
        data.draw(st.lists(st.floats(0.1, 2), min_size=len(columns.T), max_size=len(columns.T)))
    )
    for prices, limit in zip(shadow_prices(columns, values, limits), limits.T, strict=True):
        assert (prices >= 0).all()
        assert (prices @ columns >= values - 1e-4).all()
        best = linprog(-values, A_ub=columns, b_ub=limit, method="highs")
        assert prices @ limit == pytest.approx(-best.fun, abs=1e-4)

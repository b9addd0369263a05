"""Devices of one rank are linked as their vendor wants it, whatever has broken beside them."""

from collections.abc import Sequence

import pytest

from scheduler.core.cycle import run_cycle
from scheduler.core.model.catalogue import Catalogue, DeviceSpec, PlacementRule
from scheduler.core.model.types import (
    Admit,
    Decision,
    Defer,
    DeviceView,
    Policy,
    Preempt,
    QueueView,
    RunningView,
)
from scheduler.core.placement.snapshot import take_snapshot
from tests.unit.scheduler.build import NOW_MS, gpu, holding, node, role, workload

RINGS = DeviceSpec("910A", "ascend", ("ring",), rule=PlacementRule((1, 2, 4, 8), 4, "inside"))
MODULES = DeviceSpec("910C", "ascend", ("pair",), rule=PlacementRule((), 2, pair_size=2))


def npus(model: str, *islands: str) -> list[DeviceView]:
    """Devices island by island: ``"+x"`` = an intact and a broken one."""
    shown = [(number, health == "+") for number, island in enumerate(islands) for health in island]
    return [
        gpu(index, "ascend", model, island=island, healthy=healthy)
        for index, (island, healthy) in enumerate(shown)
    ]


def decide(
    devices: Sequence[DeviceView], count: int, running: Sequence[RunningView] = (), priority: int = 0
) -> list[Decision]:
    asks = workload("asks", role(count=count, vendors=("ascend",)), priority=priority)
    catalogue = Catalogue((RINGS, MODULES))
    snapshot = take_snapshot(
        [node("n", *devices)], [QueueView("default")], [asks], running, catalogue=catalogue
    )
    return run_cycle(snapshot, Policy(), NOW_MS)


@pytest.mark.parametrize(
    ("islands", "count", "fits"),
    [
        pytest.param(("+xxx", "+xxx"), 2, False, id="what is left of two rings is no ring"),
        pytest.param(("++xx", "+xxx"), 2, True, id="two of one ring"),
        pytest.param(("+xxx", "xxxx"), 1, True, id="one needs no link"),
        pytest.param(("+++x", "+++x"), 4, False, id="four are of one ring where a ring has four"),
        pytest.param(("++++", "++++"), 8, True, id="eight are two whole rings"),
        pytest.param(("+", "+"), 2, True, id="where the driver shows no links there are no rings"),
    ],
)
def test_a_rank_never_spans_what_is_left_of_several_rings(
    islands: tuple[str, ...], count: int, fits: bool
) -> None:
    (decision,) = decide(npus("ring", *islands), count)
    assert isinstance(decision, Admit) == fits


def test_whoever_waits_for_a_broken_ring_is_told_what_to_repair() -> None:
    (decision,) = decide(npus("ring", "+xxx", "+xxx"), 2)
    assert isinstance(decision, Defer)
    assert not decision.never
    assert decision.reasons[0].code == "DeviceUnhealthy"
    assert "that its vendor links; 2 are healthy but not together" in decision.reasons[0].message
    assert decision.remedy.startswith("repair n/ascend-1 on n")


@pytest.mark.parametrize("islands", [("+x", "++"), ("++", "+x"), ("x+", "x+", "++")])
def test_a_module_with_a_broken_half_hides_no_whole_one(islands: tuple[str, ...]) -> None:
    devices = npus("pair", *islands)
    (decision,) = decide(devices, 2)
    assert isinstance(decision, Admit)
    (rank,) = decision.placement
    taken = {share.index for share in rank.shares}
    assert {device.island for device in devices if device.index in taken} == {islands.index("++")}


@pytest.mark.parametrize(("model", "islands"), [("ring", ("+xxx", "+xxx")), ("pair", ("+x", "+x"))])
def test_nothing_is_preempted_for_what_no_ring_can_give(model: str, islands: tuple[str, ...]) -> None:
    devices = npus(model, *islands)
    healthy = [position for position, device in enumerate(devices) if device.healthy]
    running = [holding(f"r{p}", node("n", *devices), p, preemptible=True) for p in healthy]
    found = decide(devices, 2, running, priority=9)
    assert not any(isinstance(decision, Preempt) for decision in found)


def test_both_rings_are_cleared_for_who_needs_them_whole() -> None:
    devices = npus("ring", "++++", "++++")
    at = node("n", *devices)
    low = [holding("first", at, 0), holding("second", at, 5, 6)]
    stopped = {each.uid for each in decide(devices, 8, low, priority=5) if isinstance(each, Preempt)}
    assert stopped == {"uid-first", "uid-second"}


def test_of_three_rings_the_two_that_cost_least_are_cleared() -> None:
    devices = npus("ring", "++++", "++++", "++++")
    at = node("n", *devices)
    low = [holding("large", at, 0, 1, 2, 3), holding("small", at, 4), holding("pair", at, 8, 9)]
    stopped = {each.uid for each in decide(devices, 8, low, priority=5) if isinstance(each, Preempt)}
    assert stopped == {"uid-small", "uid-pair"}

"""What agents remember of devices, put into steps; and whom to ask when nobody does."""

from types import SimpleNamespace

import pytest

from common.clock import VirtualClock
from common.errors import NotFound, Unavailable
from common.resources import Metadata, Node
from common.resources.pool import NodeSpec, NodeStatus
from scheduler.insight.answers import NodeSeries, SeriesPoint
from scheduler.insight.device_series import node_series, points
from scheduler.ports import DeviceSample
from tests.fixtures.fabric import FakeFabric, accelerator

START_MS = 1_700_000_100_000


def sample(seconds: int, percent: int | None, healthy: bool = True, watts: int | None = None) -> DeviceSample:
    return DeviceSample(START_MS + seconds * 1000, healthy, percent, power_watts=watts)


def test_a_point_is_the_mean_of_what_is_known_in_a_step_that_begins_at_a_multiple_of_its_length() -> None:
    samples = [sample(0, 10, watts=100), sample(5, 30), sample(10, None, healthy=False), sample(20, 50)]
    first, last = points(samples, START_MS, 20)
    assert first == SeriesPoint(
        time_ms=START_MS, samples=3, healthy=False, utilisation_percent=20, power_watts=100
    )
    assert (last.time_ms, last.samples, last.utilisation_percent) == (START_MS + 20_000, 1, 50)
    assert points(samples, START_MS, 3600)[0].time_ms % 3_600_000 == 0


def test_without_steps_every_sample_is_a_point_and_older_ones_are_left_out() -> None:
    samples = [sample(0, 1), sample(5, 2), sample(10, 3)]
    found = points(samples, START_MS + 5000, 0)
    assert [(p.time_ms - START_MS, p.utilisation_percent) for p in found] == [(5000, 2), (10_000, 3)]
    assert points([], START_MS, 60) == []


def scene() -> SimpleNamespace:
    clock = VirtualClock(START_MS)
    cards = [accelerator("a", 0), accelerator("a", 1)]
    fabric = FakeFabric(clock, a=cards)
    fabric.samples["a-nvidia-0"] = [sample(-30, 80), sample(-10, 40)]
    metadata = Metadata(name="a")
    node = Node(metadata=metadata, spec=NodeSpec(), status=NodeStatus(devices=cards))

    async def ask(device: str | None = None, window: int = 60, step: int = 0) -> NodeSeries:
        return await node_series(fabric, node, device, window, step, clock.now_ms())

    return SimpleNamespace(fabric=fabric, ask=ask)


async def test_every_device_of_the_node_has_its_series_or_the_one_that_is_asked_for() -> None:
    here = scene()
    both = await here.ask()
    assert [(d.device, d.index, d.model, len(d.points)) for d in both.devices] == [
        ("a-nvidia-0", 0, "H100", 3),
        ("a-nvidia-1", 1, "H100", 1),
    ]
    (one,) = (await here.ask("a-nvidia-0", window=20)).devices
    assert [point.utilisation_percent for point in one.points] == [40, None]
    with pytest.raises(NotFound, match=r"no device 'x'; its devices: a-nvidia-0, a-nvidia-1"):
        await here.ask("x")


async def test_a_node_that_is_away_cannot_be_asked() -> None:
    here = scene()
    here.fabric.hosts["a"].state = "Silent"
    with pytest.raises(Unavailable, match="does not answer"):
        await here.ask()
    del here.fabric.hosts["a"]
    with pytest.raises(Unavailable, match="not in the cluster now"):
        await here.ask()

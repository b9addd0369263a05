"""The loop behind mode auto: devices from the pool, duties from what was served, nothing on no evidence."""

import json
from pathlib import Path
from typing import Any

import pytest

from billing.core.events import UsageEvent
from common.clock import VirtualClock
from common.resources import Endpoint, Metadata, Model, Node, Project
from common.resources.objectives import TrafficProfile
from common.resources.people import ProjectSpec
from common.resources.pool import Device, NodeStatus
from common.resources.scaling import AutoscalingSpec
from common.resources.serving import EndpointSpec, ModelSpec, Replica
from common.settings import Settings
from common.store.memory import MemoryStore
from control.planning.auto_mode import AutoMode
from control.planning.kept_supplies import SUPPLIES_SECONDS
from control.planning.plan import Planner
from control.planning.served_traffic import MOST_IDS, ServedTraffic
from tests.fixtures.performance_scene import LLAMA_8B, configs

GIB = 1024**3
H100, H200, CPU = "nvidia/H100 80GB HBM3", "nvidia/NVIDIA H200", "cpu/x86"
TIGHT = {"ttftMilliseconds": 1000, "interTokenMilliseconds": 12}


class World:
    """A store, a pool and the loop; engines and requests are what the test says."""

    def __init__(self, home: Path) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.traffic = ServedTraffic()
        settings = Settings(home=home)
        self.loop = AutoMode(self.store, Planner(self.store, settings, self.clock), self.traffic, self.clock)
        folder = home / "models" / "llama"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(configs()[LLAMA_8B]))
        self.sent = 0

    async def pool(self, **devices: int) -> None:
        """Nodes ``a``, ``b`` … with so many devices each, named by their classes' last word."""
        names = {"h100": H100, "h200": H200, "cpu": CPU}
        for name, count in devices.items():
            vendor, _, model = names[name].partition("/")
            await self.store.apply(Node(metadata=Metadata(name=name)))
            node = await self.store.get(Node, name)
            node.status = NodeStatus(
                devices=[
                    Device(id=f"{name}-{at}", index=at, vendor=vendor, model=model, memory_bytes=80 * GIB)  # type: ignore[arg-type]
                    for at in range(count)
                ]
            )
            node.status.set_condition("Ready", True, "Alive", now_ms=self.clock.now_ms())
            await self.store.set_status(node)

    async def apply(self, name: str = "chat", project: str = "lab", **spec: Any) -> None:
        await self.store.apply(Project(metadata=Metadata(name=project), spec=ProjectSpec(tenant="acme")))
        source = ModelSpec(source="$(HOME_DIR)/models/llama")
        await self.store.apply(Model(metadata=Metadata(name="llama", project=project), spec=source))
        wanted = EndpointSpec.model_validate({"model": "llama", "mode": "auto", "slo": TIGHT, **spec})
        await self.store.apply(Endpoint(metadata=Metadata(name=name, project=project), spec=wanted))

    async def endpoint(self) -> Endpoint:
        return await self.store.get(Endpoint, "chat", "lab")

    async def engines(self, count: int, device_class: str = H100) -> None:
        endpoint = await self.endpoint()
        auto = endpoint.status.auto
        readers = auto.readers_of(device_class) if auto else 0
        endpoint.status.replicas = [
            Replica(
                workload=f"chat-{at}",
                ready=True,
                device_class=device_class,
                duty="" if not readers else "prefill" if at < readers else "decode",
            )
            for at in range(count)
        ]
        await self.store.set_status(endpoint)

    def serve(self, rate: float, seconds: int, prompt: int, output: int, **other: Any) -> None:
        """Requests that have ended, up to now, in bursts of eight."""
        now = self.clock.now_ms()
        events = []
        for number in range(int(rate * seconds)):
            at = now - seconds * 1000 + int(1000 * (number // 8 * 8) / rate)
            self.sent += 1
            events.append(
                UsageEvent(
                    id=f"e{self.sent}",
                    kind="inference",
                    tenant="acme",
                    project=other.get("project", "lab"),
                    started_ms=at,
                    ended_ms=at + 900,
                    quantities={"prompt_tokens": prompt, "completion_tokens": output},
                    resource=other.get("resource", f"chat-{number % 8}"),
                )
            )
        self.traffic.posted(events)

    async def looks(self, count: int, rate: float = 0.0, prompt: int = 1000, output: int = 100) -> None:
        for _ in range(count):
            self.clock.advance(15)
            if rate:
                self.serve(rate, 15, prompt, output)
            await self.loop.step()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_devices_are_chosen_from_those_of_the_pool(world: World) -> None:
    await world.pool(h100=8, cpu=4)
    await world.apply()
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert (auto.device_class, auto.mode, auto.readers) == (H100, "replicated", [])
    assert auto.devices_per_engine in (1, 2, 4)
    assert auto.hands_over
    assert auto.reasons[0].startswith(H100)
    assert "(assumed)" in auto.reasons[1]
    (event,) = [one for one in await world.store.events() if one.reason == "ModeDecided"]
    assert H100 in event.message


@pytest.mark.parametrize("cpus", [0, 4])
async def test_without_figures_replicas_serve_and_that_is_said(world: World, cpus: int) -> None:
    if cpus:
        await world.pool(cpu=cpus)
    await world.apply()
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert (auto.mode, auto.device_class, auto.connector) == ("replicated", "", "")
    assert "replicas of what spec.devices allows serve it" in auto.reasons[0]
    if cpus:
        assert "figures of CPUs are not known" in auto.reasons[0]


async def test_a_model_that_is_not_understood_is_served_by_replicas(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    model = await world.store.get(Model, "llama", "lab")
    model.spec.source = "somewhere/else"
    await world.store.apply(model)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == ""


async def test_duties_follow_what_was_served_and_do_not_flap(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    await world.engines(8)
    await world.looks(8, rate=130.0, prompt=3000, output=20)
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.mode == "disaggregated", auto.reasons
    assert 1 <= auto.readers_of(H100) <= 7
    assert auto.min_prompt_tokens >= 512
    assert any("requests/s of 3,000 prompt tokens" in reason for reason in auto.reasons)
    await world.engines(8)
    await world.looks(12, rate=130.0, prompt=3000, output=20)
    after = (await world.endpoint()).status.auto
    assert after is not None
    assert len(after.changes_ms) <= 2
    world.loop = AutoMode(world.store, world.loop._planner, world.traffic, world.clock)
    await world.looks(2, rate=130.0, prompt=3000, output=20)
    again = (await world.endpoint()).status.auto
    assert again is not None
    assert again.changes_ms == after.changes_ms, "what was changed lately is known after a restart"


async def test_nothing_is_concluded_from_few_requests_and_little_is_written(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    await world.engines(8)
    await world.looks(2, rate=0.5)
    before = await world.store.revision()
    await world.looks(6, rate=0.5)
    assert await world.store.revision() == before
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.readers == []
    assert any("too few to judge" in reason for reason in auto.reasons)


async def test_devices_that_vanish_are_replaced_by_others(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    await world.pool(h200=8)
    await world.store.delete(Node, "h100")
    world.clock.advance(SUPPLIES_SECONDS)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == H200


async def test_engines_on_a_node_that_takes_no_more_work_go_on(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    await world.engines(2)
    await world.pool(h200=8)
    node = await world.store.get(Node, "h100")
    node.spec.cordoned = True
    await world.store.apply(node)
    world.clock.advance(SUPPLIES_SECONDS)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == H100


async def test_devices_with_figures_that_join_later_are_taken(world: World) -> None:
    await world.pool(cpu=4)
    await world.apply()
    await world.loop.step()
    await world.pool(h100=8)
    world.clock.advance(SUPPLIES_SECONDS)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == H100


async def test_what_no_device_can_keep_is_planned_once_for_a_pool(world: World) -> None:
    await world.pool(h100=8)
    await world.apply(slo={"ttftMilliseconds": 0.001})
    await world.loop.step()
    before = await world.store.revision()
    for _ in range(3):
        world.clock.advance(SUPPLIES_SECONDS)
        await world.loop.step()
    assert await world.store.revision() == before
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert "time to the first token" in auto.reasons[0]


async def test_a_pool_that_is_away_for_a_while_changes_nothing(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    await world.store.delete(Node, "h100")
    world.clock.advance(SUPPLIES_SECONDS)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == H100


async def test_what_is_posted_twice_or_is_not_its_own_does_not_count(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.apply(project="zoo")
    await world.loop.step()
    await world.engines(8)
    await world.loop.step()
    endpoint, now = await world.endpoint(), world.clock.now_ms() / 1000
    world.serve(1.0, 60, 100, 10, project="zoo")
    world.serve(1.0, 60, 100, 10, resource="other-0")
    assert world.traffic.log_of(endpoint).recent(now) == []
    world.serve(1.0, 60, 100, 10)
    world.sent -= 60
    world.serve(1.0, 60, 100, 10)
    assert len(world.traffic.log_of(endpoint).recent(now)) <= 60
    world.serve(200.0, 60, 100, 10)
    assert len(world.traffic._seen) == MOST_IDS


async def test_an_endpoint_without_its_model_waits(world: World) -> None:
    await world.apply()
    await world.store.delete(Model, "llama", "lab")
    await world.loop.step()
    assert (await world.endpoint()).status.auto is None


async def test_devices_are_chosen_anew_by_the_lengths_that_were_measured(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    assert "1,000 prompt tokens and 250 output tokens (assumed)" in await reasons(world)
    await world.engines(8)
    await world.looks(6, rate=4.0, prompt=6000, output=80)
    endpoint = await world.endpoint()
    endpoint.spec.autoscaling = AutoscalingSpec(max_replicas=8)
    await world.store.apply(endpoint)
    await world.looks(1)
    assert "6,000 prompt tokens and 80 output tokens (measured)" in await reasons(world)
    endpoint = await world.endpoint()
    endpoint.spec.traffic = TrafficProfile(prompt_tokens=300, output_tokens=40)
    await world.store.apply(endpoint)
    await world.looks(1)
    assert "300 prompt tokens and 40 output tokens;" in f"{await reasons(world)};"


async def reasons(world: World) -> str:
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    return "; ".join(auto.reasons)

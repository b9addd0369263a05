"""Mode auto on the real API, ledger and store: what gateways post decides which engines read."""

import json
from typing import Any

import pytest

from billing.core.events import UsageEvent
from common.resources import Endpoint, Node
from common.resources.pool import Device, NodeStatus
from common.resources.serving import Replica
from control.planning.auto_mode import AutoMode
from inference.controller import EndpointController
from inference.routes import build_routing_table
from tests.fixtures.engines import FakeEngines
from tests.fixtures.performance_scene import LLAMA_8B, configs
from tests.integration.control.conftest import TOKEN, World, document

H100 = "NVIDIA H100 80GB HBM3"
ENGINES = 8
TIGHT = {"ttftMilliseconds": 1000, "interTokenMilliseconds": 12}


async def with_pool(world: World) -> AutoMode:
    """A Model whose configuration control has, and a node of eight H100."""
    folder = world.context.settings.home / "models" / "llama"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(configs()[LLAMA_8B]))
    (folder / "model.safetensors").write_bytes(b"weights")
    applied = await world.apply(document("Model", "llama", "search", source="$(HOME_DIR)/models/llama"))
    assert applied.status_code == 200, applied.text
    await world.store_directly("Node", "a")
    node = await world.context.store.get(Node, "a")
    node.status = NodeStatus(
        devices=[
            Device(id=f"a-{at}", index=at, vendor="nvidia", model=H100, memory_bytes=80 * 2**30)
            for at in range(ENGINES)
        ]
    )
    node.status.set_condition("Ready", True, "Alive", now_ms=world.clock.now_ms())
    await world.context.store.set_status(node)
    return AutoMode(world.context.store, world.context.planner, world.context.traffic, world.clock)


async def endpoint(world: World) -> dict[str, Any]:
    answer = await world.request("search-member", "GET", "/api/v1/endpoints/chat?project=search")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def engines_answer(world: World) -> None:
    """As the endpoint controller sees them."""
    found = await world.context.store.get(Endpoint, "chat", "search")
    found.status.replicas = [
        Replica(workload=f"chat-{at}", ready=True, url=f"http://e{at}", device_class=f"nvidia/{H100}")
        for at in range(ENGINES)
    ]
    await world.context.store.set_status(found)


async def served(world: World, first: int, seconds: int = 15, rate: int = 130) -> None:
    """Bursts of long prompts and short answers, as gateways post them."""
    now = world.clock.now_ms()
    events = [
        UsageEvent(
            id=f"event-{first + number}",
            kind="inference",
            tenant="acme",
            project="search",
            started_ms=now - seconds * 1000 + 1000 * (number // 8 * 8) // rate,
            ended_ms=now - seconds * 1000 + 1000 * (number // 8 * 8) // rate + 900,
            quantities={"prompt_tokens": 3000, "completion_tokens": 20},
            model="llama",
            resource=f"chat-{number % ENGINES}",
        ).to_dict()
        for number in range(rate * seconds)
    ]
    for start in range(0, len(events), 500):
        answer = await world.request(
            None,
            "POST",
            "/internal/v1/usage-events",
            headers={"Authorization": f"Bearer {TOKEN}"},
            json={"events": events[start : start + 500]},
        )
        assert answer.json()["accepted"] == len(events[start : start + 500])


async def test_what_was_served_decides_who_reads_and_gateways_are_told(world: World) -> None:
    loop = await with_pool(world)
    wanted = {"model": "llama", "mode": "auto", "slo": TIGHT, "autoscaling": {"maxReplicas": ENGINES}}
    applied = await world.apply(document("Endpoint", "chat", "search", **wanted), key="search-member")
    assert applied.status_code == 200, applied.text
    store = world.context.store
    controller = EndpointController(store, FakeEngines(), world.context.settings, world.clock)
    await controller.step()
    await loop.step()
    chosen = (await endpoint(world))["status"]["auto"]
    assert chosen["deviceClass"] == f"nvidia/{H100}"
    await engines_answer(world)
    for look in range(4):
        world.clock.advance(16)
        await served(world, first=look * 10_000)
        await loop.step()
    decided = (await endpoint(world))["status"]["auto"]
    assert decided["mode"] == "disaggregated", decided["reasons"]
    [readers] = decided["readers"]
    assert 1 <= readers["engines"] < ENGINES
    events = await world.request("admin", "GET", "/api/v1/events?kind=Endpoint&name=chat")
    assert any("disaggregated" in one["message"] for one in events.json()["items"])
    routes = {route.model: route for route in (await build_routing_table(store)).routes}
    assert "llama" in routes


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        ({"replicas": 3}, "replicas"),
        ({"prefill": {}}, "prefill"),
        ({"slo": {"ttftMilliseconds": 0}}, "ttftMilliseconds"),
        ({"slo": {"interTokenMilliseconds": "NaN"}}, "interTokenMilliseconds"),
        ({"traffic": {"promptTokens": 0}}, "promptTokens"),
    ],
)
async def test_what_auto_cannot_have_is_refused_by_the_name_of_the_field(
    world: World, spec: dict[str, Any], param: str
) -> None:
    await with_pool(world)
    asked = document("Endpoint", "chat", "search", **{"model": "llama", "mode": "auto", **spec})
    refused = await world.apply(asked)
    assert refused.status_code == 400
    assert param in refused.text


async def test_a_plan_of_auto_shows_its_options_and_writes_nothing(world: World) -> None:
    await with_pool(world)
    before = await world.context.store.revision()
    asked = document("Endpoint", "chat", "search", model="llama", mode="auto", slo=TIGHT)
    answer = await world.request("admin", "POST", "/api/v1/plan", json={"documents": [asked]})
    assert answer.status_code == 200, answer.text
    [plan] = answer.json()["plans"]
    assert {one["mode"] for one in plan["options"]} >= {"replicated", "disaggregated"}
    assert await world.context.store.revision() == before

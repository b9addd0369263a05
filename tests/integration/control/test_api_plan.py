"""Plans through the real API: who may ask, for which devices, at which prices, and what is refused."""

from typing import Any

import pytest
import yaml

from common.resources import Node
from common.resources.pool import Device, NodeStatus
from tests.fixtures.performance_scene import LLAMA_8B, QWEN_32B, configs
from tests.integration.control.conftest import World, document

GIB = 1024**3
TIGHT = {"ttftMilliseconds": 1000, "interTokenMilliseconds": 20}
LONG = {"promptTokens": 4000, "outputTokens": 500}


async def with_model(world: World, *, h200: int = 0, cpus: int = 0) -> World:
    """A Model, and nodes of eight H200 each and one of CPUs."""
    await world.apply(document("Model", "qwen", "search", source=QWEN_32B))
    for number in range(h200 + bool(cpus)):
        name = f"node-{number}"
        vendor, model, count = ("nvidia", "NVIDIA H200", 8) if number < h200 else ("cpu", "x86", cpus)
        await world.store_directly("Node", name)
        node = await world.context.store.get(Node, name)
        devices = [
            Device(id=f"{name}-{i}", index=i, vendor=vendor, model=model, memory_bytes=141 * GIB)  # type: ignore[arg-type]
            for i in range(count)
        ]
        node.status = NodeStatus(devices=devices)
        node.status.set_condition("Ready", True, "Alive", now_ms=world.clock.now_ms())
        await world.context.store.set_status(node)
    return world


def asked(
    config: str | None = QWEN_32B, devices: list[dict[str, Any]] | None = None, **spec: Any
) -> dict[str, Any]:
    endpoint = document(
        "Endpoint", "chat", "search", **{"model": "qwen", "slo": TIGHT, "traffic": LONG, **spec}
    )
    body: dict[str, Any] = {"documents": [endpoint]}
    if config is not None:
        body["config"] = configs()[config]
    if devices is not None:
        body["devices"] = devices
    return body


async def plan(world: World, body: dict[str, Any], key: str = "admin") -> dict[str, Any]:
    answer = await world.request(key, "POST", "/api/v1/plan", json=body)
    assert answer.status_code == 200, answer.text
    (only,) = answer.json()["plans"]
    return dict(only)


async def test_the_pool_is_planned_with_and_the_best_mode_is_advised(world: World) -> None:
    await with_model(world, h200=2, cpus=4)
    found = await plan(world, asked())
    taken = found["options"][found["taken"]]
    assert (taken["mode"], taken["devices"]) == ("disaggregated", 16)
    assert {leg["role"] for leg in taken["legs"]} == {"prefill", "decode"}
    assert {leg["deviceClass"] for leg in taken["legs"]} == {"nvidia/NVIDIA H200"}
    assert {one["mode"] for one in found["options"]} == {"disaggregated", "replicated"}
    assert 450 < taken["outputTokensPerSecondPerDevice"] < 600
    assert taken["ttftMilliseconds"] <= 1000
    assert found["refusals"] == [
        {"deviceClass": "cpu/x86", "mode": "any", "message": found["refusals"][0]["message"]}
    ]
    assert "figures of CPUs are not known" in found["refusals"][0]["message"]


async def test_a_plan_writes_nothing(world: World) -> None:
    await with_model(world, h200=1)
    before = await world.context.store.revision()
    await plan(world, asked())
    assert await world.context.store.revision() == before


async def test_prices_of_device_time_are_those_of_the_books_in_force(world: World) -> None:
    await with_model(world, h200=1)
    items = [
        {
            "meter": "device_seconds",
            "deviceClass": "nvidia/NVIDIA H200",
            "microcreditsPerMillion": 800_000_000,
        }
    ]
    unpriced = await plan(world, asked())
    assert "microcreditsPerMillionOutputTokens" not in unpriced["options"][0]
    assert any("no price book in force" in reason for reason in unpriced["reasons"])
    answer = await world.apply(document("Price", "now", effectiveFrom=None, items=items))
    assert answer.status_code == 200, answer.text
    world.clock.advance(1)
    for option in (await plan(world, asked()))["options"]:
        tokens = option["capacityRequestsPerSecond"] * 500
        cost = option["microcreditsPerMillionOutputTokens"]
        assert cost == pytest.approx(option["devices"] * 800_000_000 / tokens, rel=0.01)


async def test_a_member_plans_with_devices_that_it_names(world: World) -> None:
    """What the pool has is the platform's to know."""
    await with_model(world, h200=1)
    refused = await world.request("search-member", "POST", "/api/v1/plan", json=asked())
    assert refused.status_code == 403
    assert "--devices" in refused.json()["error"]["message"]
    offered = [{"deviceClass": "nvidia/H200", "count": 4}, {"deviceClass": "ascend/910B3", "count": 8}]
    found = await plan(world, asked(devices=offered), key="search-member")
    classes = [{leg["deviceClass"] for leg in one["legs"]} for one in found["options"]]
    assert {"nvidia/H200"} in classes
    assert {"ascend/910B3"} in classes
    assert all(len(one) == 1 for one in classes)
    assert max(one["devices"] for one in found["options"]) <= 8
    strange = await world.request("lab-member", "POST", "/api/v1/plan", json=asked(devices=offered))
    assert strange.status_code == 404
    agent = await world.request("search-agent", "POST", "/api/v1/plan", json=asked(devices=offered))
    assert agent.status_code == 403


async def test_the_endpoints_own_wishes_for_devices_count(world: World) -> None:
    await with_model(world)
    offered = [{"deviceClass": "nvidia/H200", "count": 8}, {"deviceClass": "amd/MI300X", "count": 8}]
    body = asked(config=LLAMA_8B, devices=offered)
    body["documents"][0]["spec"]["devices"] = {"vendors": ["amd"], "capabilities": ["fp8"]}
    found = await plan(world, body)
    assert {leg["deviceClass"] for one in found["options"] for leg in one["legs"]} == {"amd/MI300X"}
    (refusal,) = [one for one in found["refusals"] if one["deviceClass"] == "nvidia/H200"]
    assert "spec.devices" in refusal["message"]


async def test_without_traffic_a_usual_load_that_fits_the_model_is_assumed(world: World) -> None:
    await with_model(world, h200=1)
    body = asked(traffic=None)
    body["config"] = {**configs()[LLAMA_8B], "max_position_embeddings": 512}
    found = await plan(world, body)
    assert found["trafficAssumed"] is True
    assert found["traffic"] == {"promptTokens": 409, "outputTokens": 103}


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"config": {"hidden_size": 8}}, "config.num_hidden_layers", "num_hidden_layers"),
        ({"config": None}, "spec.model", "--model-config"),
        ({"devices": [{"deviceClass": "nvidia/H999", "count": 1}]}, "devices[0].deviceClass", "H200-SXM"),
        ({"devices": [{"deviceClass": "acme/X", "count": 1}]}, "devices[0].deviceClass", "vendors are"),
        ({"devices": [{"deviceClass": "nvidia/H200", "count": 0}]}, "devices[0].count", "at least"),
        ({"documents": []}, "documents", "at least"),
        ({"traffic": {"promptTokens": 10**6}}, "spec.traffic", "more than the 40960"),
        ({"traffic": {"promptTokens": 0}}, "spec.traffic.promptTokens", "at least"),
        ({"traffic": {"requestsPerSecond": 1e-310}}, "spec.traffic.requestsPerSecond", "at least"),
        ({"slo": {"ttftMilliseconds": 0}}, "spec.slo.ttftMilliseconds", "greater"),
        ({"slo": {"ttft": 5}}, "spec.slo.ttft", "unknown"),
        ({"model": "nobody"}, "spec.model", "nobody"),
    ],
)
async def test_what_is_wrong_is_refused_by_name(
    change: dict[str, Any], param: str, said: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.model_files.HUB_CACHE", "/nonexistent")
    monkeypatch.setattr("inference.model_config.known_config_file", lambda source: None)
    await with_model(world, h200=1)
    own = {name: value for name, value in change.items() if name in ("traffic", "slo", "model")}
    body = asked(**own)
    for name in ("config", "devices", "documents"):
        if name in change:
            body[name] = change[name]
    answer = await world.request("admin", "POST", "/api/v1/plan", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert said in error["message"]


async def test_a_document_that_is_no_endpoint_has_no_plan(world: World) -> None:
    body = {"documents": [document("Queue", "q")]}
    answer = await world.request("admin", "POST", "/api/v1/plan", json=body)
    assert answer.status_code == 400
    assert "no Endpoint" in answer.json()["error"]["message"]


async def test_one_question_is_about_some_endpoints_and_no_more(world: World) -> None:
    """Others wait while a plan is worked out."""
    await with_model(world)
    body = asked(devices=[{"deviceClass": "nvidia/H200", "count": 8}])
    endpoint = body["documents"][0]
    named = [{**endpoint, "metadata": {**endpoint["metadata"], "name": f"chat-{n}"}} for n in range(17)]
    body["documents"] = named
    refused = await world.request("search-member", "POST", "/api/v1/plan", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "documents")
    assert "at most 16 Endpoints" in refused.json()["error"]["message"]
    body["documents"] = named[:2]
    answer = await world.request("search-member", "POST", "/api/v1/plan", json=body)
    assert [one["name"] for one in answer.json()["plans"]] == ["chat-0", "chat-1"]


async def test_devices_that_are_named_twice_are_one_kind_in_nodes_of_two_sizes(world: World) -> None:
    await with_model(world)
    offered = [{"deviceClass": "nvidia/H200", "count": 8}, {"deviceClass": "nvidia/H200", "count": 8}]
    twice = await plan(world, asked(devices=offered))
    assert twice == await plan(world, asked(devices=[{"deviceClass": "nvidia/H200", "count": 16}]))
    uneven = [{**offered[0], "perNode": 4}, offered[1]]
    found = await plan(world, asked(slo={}, devices=uneven))
    assert max(one["devices"] for one in found["options"]) == 16


async def test_models_and_projects_of_the_same_request_count(world: World) -> None:
    body = asked(devices=[{"deviceClass": "nvidia/H200", "count": 8}])
    body["documents"] = [
        document("Project", "new", tenant="acme"),
        document("Model", "qwen", "new", source=QWEN_32B),
        {**body["documents"][0], "metadata": {"name": "chat", "project": "new"}},
    ]
    assert (await plan(world, body))["model"] == "new/qwen"


async def test_figures_are_corrected_by_what_the_pool_has_measured(world: World) -> None:
    await with_model(world, h200=1)
    before = await plan(world, asked(slo={}))
    file = world.context.settings.home / "measured.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    row: dict[str, Any] = {"model": "search/qwen", "deviceClass": "nvidia/NVIDIA H200", "batch": 30}
    row |= {"by": "bench of the spring", "promptTokens": 4000, "outputTokens": 500}
    row |= {"ttftMilliseconds": 900, "interTokenMilliseconds": 90}
    file.write_text(yaml.safe_dump([{**row, "tensorParallel": n} for n in (1, 2, 4, 8)]))
    world.context.settings.engine.measurements_file = str(file)
    after = await plan(world, asked(slo={"interTokenMilliseconds": 50}))
    sources = {leg["source"] for one in before["options"] for leg in one["legs"]}
    assert "measured" not in sources
    served = [one for one in after["options"] if one["mode"] != "disaggregated"]
    assert max(leg["batch"] for one in served for leg in one["legs"]) < 30
    assert any("bench of the spring" in reason for reason in after["reasons"])
    file.write_text("nonsense")
    refused = await world.request("admin", "POST", "/api/v1/plan", json=asked())
    assert refused.status_code == 400
    assert "measured.yaml" in refused.json()["error"]["message"]


async def test_nodes_that_the_endpoint_may_not_be_on_do_not_count(world: World) -> None:
    await with_model(world, h200=4)
    for name, spec in (
        ("node-0", {"cordoned": True}),
        ("node-1", {"taints": {"team": "vision"}}),
        ("node-2", {"labels": {"zone": "east"}}),
    ):
        assert (await world.apply(document("Node", name, **spec))).status_code == 200

    async def largest(**spec: Any) -> int:
        body = asked(slo={})
        body["documents"][0]["spec"].update(spec)
        found = await plan(world, body)
        return max(one["devices"] for one in found["options"])

    assert await largest() == 16
    assert await largest(devices={"nodeLabels": {"zone": "east"}}) == 8
    tolerant = document("Queue", "vision", tolerations=[{"key": "team"}])
    assert (await world.apply(tolerant)).status_code == 200
    assert await largest(queue="vision") == 24


async def test_each_role_is_planned_on_devices_of_its_own(world: World) -> None:
    await with_model(world)
    roles: dict[str, Any] = {
        name: {"devices": {"vendors": ["nvidia"], "models": [model]}}
        for name, model in (("prefill", "H200"), ("decode", "L40S"))
    }
    offered = [{"deviceClass": f"nvidia/{one}", "count": 8} for one in ("H200", "L40S", "A100-SXM4-80GB")]
    slo = {"ttftMilliseconds": 5000, "interTokenMilliseconds": 100}
    found = await plan(world, asked(devices=offered, mode="disaggregated", slo=slo, **roles))
    assert found["roles"] == [
        {"role": "prefill", "deviceClasses": ["nvidia/H200"]},
        {"role": "decode", "deviceClasses": ["nvidia/L40S"]},
    ]
    parted = [one for one in found["options"] if one["mode"] == "disaggregated"]
    assert [[leg["deviceClass"] for leg in one["legs"]] for one in parted] == [["nvidia/H200", "nvidia/L40S"]]
    why = {one["deviceClass"]: one["message"] for one in found["refusals"]}
    assert "spec.decode.devices of the Endpoint does not allow it" in why["nvidia/H200"]
    assert "spec.prefill.devices of the Endpoint does not allow it" in why["nvidia/A100-SXM4-80GB"]

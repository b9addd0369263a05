"""What is hardly meant is refused where it can only be a mistake, and told beside the answer where it may be
right."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.resources import Metadata, Node
from common.resources.pool import Device
from common.units import GIB
from tests.fixtures.performance_scene import LLAMA_8B, configs
from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["param"]


def warned(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [text for one in answer.json()["results"] for text in one.get("warnings", ())]


def endpoint(name: str, **spec: Any) -> dict[str, Any]:
    return document("Endpoint", name, "search", **spec)


async def test_two_endpoints_of_one_name_in_a_project_are_told(world: World) -> None:
    await world.apply(document("Model", "tiny", "search"), endpoint("a"), endpoint("b", servedName="chat"))
    for other in (endpoint("c", servedName="chat"), endpoint("d")):
        [odd] = warned(await world.apply(other, key="search-member"))
        assert odd.endswith("has the name too, and clients reach only one of them")
    both = endpoint("e", servedName="x"), endpoint("f", servedName="x")
    assert len(warned(await world.apply(*both))) == 2
    there = document("Model", "tiny", "lab"), document("Endpoint", "chat", "lab")
    assert warned(await world.apply(*there)) == [], "another project may have the name"


async def test_a_queue_does_not_lie_in_itself(world: World) -> None:
    assert refused(await world.apply(document("Queue", "q", parent="q"))) == (400, "spec.parent")
    await world.apply(document("Queue", "a", parent="b"), document("Queue", "b", cohort=True))
    circle = document("Queue", "b", cohort=True, parent="a")
    assert refused(await world.apply(circle)) == (400, "spec.parent")
    both = [document("Queue", "x", parent="y"), document("Queue", "y", parent="x")]
    answer = await world.apply(*both)
    assert answer.status_code == 400
    assert "x in y in x" in answer.json()["error"]["message"]


async def test_a_cohort_that_has_queues_is_not_deleted(world: World) -> None:
    await world.apply(document("Queue", "company", cohort=True), document("Queue", "team", parent="company"))
    answer = await world.request("admin", "DELETE", "/api/v1/queues/company")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "in_use")
    assert (await world.request("admin", "DELETE", "/api/v1/queues/team")).status_code == 200
    assert (await world.request("admin", "DELETE", "/api/v1/queues/company")).status_code == 200


async def test_a_queue_in_no_cohort_of_that_name_is_told(world: World) -> None:
    [nobody] = warned(await world.apply(document("Queue", "q", parent="nobody")))
    assert nobody.startswith("spec.parent: there is no Queue nobody")
    [plain] = warned(await world.apply(document("Queue", "q", parent="default")))
    assert plain.startswith("spec.parent: default has no spec.cohort")
    both = document("Queue", "company", cohort=True), document("Queue", "q", parent="company")
    assert warned(await world.apply(*both)) == []
    body = document("Queue", "q", parent="nobody")
    put = await world.request("admin", "PUT", "/api/v1/queues/q", json=body)
    assert put.json()["warnings"] == [nobody]


async def test_a_name_with_a_space_is_told(world: World) -> None:
    await world.apply(document("Model", "tiny", "search"))
    [odd] = warned(await world.apply(endpoint("e", servedName="Tiny model!")))
    assert odd.startswith("spec.servedName: 'Tiny model!' holds a space")


async def test_a_key_for_a_model_that_nobody_serves_is_told(world: World) -> None:
    await world.apply(document("Model", "tiny", "search"), endpoint("e", servedName="chat"))

    async def make(name: str, models: list[str]) -> Any:
        body = {"name": name, "role": "agent", "project": "search", "models": models}
        answer = await world.request("acme-admin", "POST", "/api/v1/keys", json=body)
        assert answer.status_code == 201
        return answer.json().get("warnings")

    assert await make("right", ["chat"]) is None
    assert await make("odd", ["chat", "caht"]) == ["models: nobody serves caht now"]
    assert await make("every", []) is None
    await world.apply(document("Model", "tiny", "lab"), document("Endpoint", "x", "lab", servedName="secret"))
    assert await make("nosy", ["secret"]) == ["models: nobody serves secret now"], "of others nothing is told"


async def test_an_answer_that_is_repeated_repeats_what_was_odd(world: World) -> None:
    body, headers = document("Queue", "q", parent="nobody"), {"Idempotency-Key": "once"}
    first, again = [
        await world.request("admin", "POST", "/api/v1/apply", json=body, headers=headers) for _ in range(2)
    ]
    assert first.json() == again.json()
    assert warned(again)


async def test_engines_that_no_devices_can_hold_are_told(world: World, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(configs()[LLAMA_8B]))
    node = Node(metadata=Metadata(name="n"))
    kept = (await world.context.store.apply(node)).resource
    kept.status.devices = [Device(id="d", index=0, vendor="nvidia", model="T4", memory_bytes=16 * GIB)]
    await world.context.store.set_status(kept)
    model = document("Model", "tiny", "search", source=str(tmp_path))
    [odd] = warned(await world.apply(model, endpoint("a")))
    assert odd.startswith("spec.devices: 15.0 GiB of weights on each device do not fit into the 14.7 GiB")
    assert warned(await world.apply(model, endpoint("a", devices={"count": 4}))) == []

"""The pool in numbers, why workloads wait, and what would happen: who may ask, and what they are told."""

from dataclasses import replace
from typing import Any

import pytest

from common.resources import Node, Workload
from common.resources.pool import Device, NodeStatus
from common.resources.workload import Grant, RankPlacement, WorkloadStatus
from scheduler.ports import DeviceSample
from tests.fixtures.fabric import FakeFabric
from tests.integration.control.conftest import World, document

GIB = 1024**3


async def with_pool(world: World) -> World:
    """Four GPUs; one workload of each tenant runs, one of ours waits."""
    store, now_ms = world.context.store, world.clock.now_ms()
    await world.store_directly("Node", "node-a")
    node = await store.get(Node, "node-a")
    node.status = NodeStatus(
        devices=[
            Device(id=f"gpu-{i}", index=i, vendor="nvidia", model="H100", memory_bytes=80 * GIB)
            for i in range(4)
        ]
    )
    node.status.set_condition("Ready", True, "Alive", now_ms=now_ms)
    await store.set_status(node)
    for number, (name, project) in enumerate((("ours", "search"), ("theirs", "lab"))):
        await world.apply(document("Workload", name, project, expectedSeconds=600))
        workload = await store.get(Workload, name, project)
        grant = Grant(device=f"gpu-{number}", index=number, vendor="nvidia", model="H100")
        rank = RankPlacement(role="main", replica=0, rank=0, node="node-a", grants=[grant])
        workload.status = WorkloadStatus(phase="Running", admitted_ms=now_ms, ranks=[rank])
        await store.set_status(workload)
    await world.apply(wanted("waits", 4))
    return world


def wanted(name: str, count: int, project: str = "search", **spec: Any) -> dict[str, Any]:
    role = {"name": "main", "command": ["true"], "devices": {"count": count}}
    return document("Workload", name, project, roles=[role], **spec)


async def test_the_platform_sees_all_of_the_pool(world: World) -> None:
    await with_pool(world)
    answer = await world.request("admin", "GET", "/api/v1/overview")
    assert answer.status_code == 200
    body = answer.json()
    assert [(row["vendor"], row["devices"], row["allocatedMillis"]) for row in body["pool"]] == [
        ("nvidia", 4, 2000)
    ]
    assert [(row["name"], row["freeMillis"], row["strandedMillis"]) for row in body["nodes"]] == [
        ("node-a", 2000, 2000)
    ]
    assert [(row["name"], row["usedMillis"], row["pending"]) for row in body["queues"]] == [
        ("default", 2000, 1)
    ]
    assert {row["name"] for row in body["workloads"]} == {"ours", "theirs"}
    few = (await world.request("admin", "GET", "/api/v1/overview?limit=1")).json()
    assert len(few["workloads"]) == 1


@pytest.mark.parametrize("key", ["search-member", "acme-admin"])
async def test_a_tenant_sees_queues_and_its_own_workloads(world: World, key: str) -> None:
    await with_pool(world)
    answer = await world.request(key, "GET", "/api/v1/overview")
    body = answer.json()
    assert body.keys() == {"atMs", "queues", "workloads"}
    assert [row["name"] for row in body["workloads"]] == ["ours"]
    assert "theirs" not in answer.text


async def test_without_the_right_to_read_workloads_there_is_no_overview(world: World) -> None:
    assert (await world.request("search-agent", "GET", "/api/v1/overview")).status_code == 403
    assert (await world.request(None, "GET", "/api/v1/overview")).status_code == 401
    assert (await world.request("admin", "GET", "/api/v1/overview?limit=0")).status_code == 400


async def with_history(world: World) -> World:
    await with_pool(world)
    cards = (await world.context.store.get(Node, "node-a")).status.devices
    fabric = FakeFabric(world.clock, node_a=cards)
    now_ms = world.clock.now_ms()
    fabric.samples["gpu-0"] = [DeviceSample(now_ms - ago * 1000, True, ago) for ago in (90, 30, 10)]
    world.app.state.context = replace(world.context, fabric=fabric)
    return world


async def test_the_last_hour_of_a_node_is_told_to_those_who_may_read_nodes(world: World) -> None:
    await with_history(world)
    path = "/api/v1/nodes/node-a/series"
    body = (await world.request("admin", "GET", path)).json()
    assert (body["node"], body["windowSeconds"], body["stepSeconds"]) == ("node-a", 3600, 0)
    assert [device["device"] for device in body["devices"]] == [f"gpu-{i}" for i in range(4)]
    assert [p.get("utilisationPercent") for p in body["devices"][0]["points"]] == [90, 30, 10, None]
    one = (
        await world.request("admin", "GET", f"{path}?device=gpu-0&window_seconds=60&step_seconds=3600")
    ).json()
    assert [device["device"] for device in one["devices"]] == ["gpu-0"]
    assert sum(point["samples"] for point in one["devices"][0]["points"]) == 3
    for key in ("search-member", "acme-admin", "search-agent"):
        assert (await world.request(key, "GET", path)).status_code == 403
    assert (await world.request(None, "GET", path)).status_code == 401


async def test_a_series_that_cannot_be_told_says_why(world: World) -> None:
    path = "/api/v1/nodes/node-a/series"
    assert (await world.request("admin", "GET", path)).status_code == 404
    await with_pool(world)
    assert (await world.request("admin", "GET", path)).status_code == 503, "this process has no fabric"
    await with_history(world)
    unknown = await world.request("admin", "GET", f"{path}?device=gpu-9")
    assert unknown.status_code == 404
    assert "its devices: gpu-0, gpu-1" in unknown.json()["error"]["message"]
    for query, name in (("window_seconds=0", "window_seconds"), ("step_seconds=3601", "step_seconds")):
        refused = await world.request("admin", "GET", f"{path}?{query}")
        assert refused.status_code == 400
        assert name in refused.json()["error"]["message"]


async def test_a_member_is_told_why_its_workload_waits_and_until_when(world: World) -> None:
    await with_pool(world)
    told = (await world.request("search-member", "GET", "/api/v1/workloads/waits/explain")).json()
    assert told["reasons"][0]["code"] == "DevicesBusy"
    assert (told["position"], told["waiting"]) == (1, 1)
    assert told["queueNumbers"]["usedMillis"] == 2000
    assert told["reservedMs"] == told["etaMs"] == world.clock.now_ms() + 600_000
    runs = (await world.request("search-member", "GET", "/api/v1/workloads/ours/explain")).json()
    assert runs["expectedEndMs"] == world.clock.now_ms() + 600_000
    hidden = await world.request("search-member", "GET", "/api/v1/workloads/theirs/explain?project=lab")
    assert hidden.status_code == 404


async def test_a_simulation_answers_and_writes_nothing(world: World) -> None:
    await with_pool(world)
    revision = await world.context.store.revision()
    answer = await world.request(
        "admin", "POST", "/api/v1/simulate", json=[wanted("small", 2), wanted("huge", 16)]
    )
    assert answer.status_code == 200
    small, huge = answer.json()["workloads"]
    assert (small["starts"], {rank["node"] for rank in small["ranks"]}) == ("Now", {"node-a"})
    assert {grant["device"] for rank in small["ranks"] for grant in rank["grants"]} == {"gpu-2", "gpu-3"}
    assert (huge["starts"], huge["reasons"][0]["code"]) == ("Never", "DeviceCount")
    one = await world.request("admin", "POST", "/api/v1/simulate?atHead=true", json=wanted("small", 4))
    assert one.json()["workloads"][0]["starts"] == "Later"
    assert await world.context.store.revision() == revision
    names = {workload.name for workload in await world.context.store.list(Workload)}
    assert names == {"ours", "theirs", "waits"}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (wanted("w", 1, queue="night"), 400, "spec.queue"),
        ([wanted("w", 1), wanted("x", 1, queue="night")], 400, "[1].spec.queue"),
        (wanted("w", 1, project="nobody"), 404, None),
        (document("Endpoint", "e", "search"), 400, "kind"),
        ([wanted("w", 1), document("Endpoint", "e", "search")], 400, "[1].kind"),
        (document("Queue", "q"), 400, "kind"),
        (document("Workload", "w", "search", roles=[]), 400, "spec.roles"),
        ([], 400, None),
        ([wanted("w", 1), wanted("w", 2)], 400, None),
    ],
)
async def test_what_cannot_be_simulated_is_refused_by_field(
    world: World, body: Any, status: int, param: str | None
) -> None:
    answer = await world.request("admin", "POST", "/api/v1/simulate", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("key", ["search-member", "acme-admin", "search-agent"])
async def test_only_who_may_write_workloads_may_simulate_them(world: World, key: str) -> None:
    answer = await world.request(key, "POST", "/api/v1/simulate", json=wanted("w", 1))
    assert answer.status_code == 403


@pytest.mark.parametrize("field", ["quotas", "budgets"])
async def test_a_class_that_is_left_out_means_nothing_on_cpus_alone(world: World, field: str) -> None:
    """Somebody would believe in a limit that is none."""

    def queue(**entry: Any) -> dict[str, Any]:
        amount = {"nominalDevices": 1} if field == "quotas" else {"deviceHours": 1}
        return document("Queue", "small", None, **{field: [{**amount, **entry}]})

    assert (await world.apply(queue())).status_code == 200  # before there is any node
    await with_devices(world, "cpu")
    assert (await world.apply(queue())).status_code == 200
    await world.request("admin", "DELETE", "/api/v1/queues/small")
    answer = await world.apply(queue())
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == f"spec.{field}[0].deviceClass"
    assert "write cpu" in answer.json()["error"]["message"]
    assert (await world.apply(queue(deviceClass="cpu"))).status_code == 200
    assert (await world.apply(queue(deviceClass="*"))).status_code == 200
    await world.request("admin", "DELETE", "/api/v1/queues/small")
    await with_devices(world, "cpu", "nvidia")
    assert (await world.apply(queue())).status_code == 200


async def with_devices(world: World, *vendors: Any) -> None:
    """A node with these."""
    store = world.context.store
    await world.store_directly("Node", "node-a")
    node = await store.get(Node, "node-a")
    devices = [Device(id=v, index=i, vendor=v, model="m", memory_bytes=GIB) for i, v in enumerate(vendors)]
    node.status = NodeStatus(devices=devices)
    await store.set_status(node)

"""What is shared, flagged or limited is the platform's, whichever way around it is tried."""

from typing import Any

import httpx
import pytest

from common.resources import Project
from inference.routes import build_routing_table
from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration
PEOPLE = ("search-member", "acme-admin")


def refusal(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"]["param"]


def project(name: str = "search", tenant: str = "acme", **spec: Any) -> dict[str, Any]:
    return document("Project", name, tenant=tenant, **spec)


def endpoint(name: str, where: str = "search", **spec: Any) -> dict[str, Any]:
    return document("Endpoint", name, where, **spec)


def model(name: str = "tiny", where: str = "search", **spec: Any) -> dict[str, Any]:
    return document("Model", name, where, **spec)


async def queues_of(world: World, name: str = "search") -> list[str]:
    return (await world.context.store.get(Project, name)).spec.queues


# Queues and limits of projects


async def test_a_tenant_admin_neither_lifts_nor_widens_the_queues_of_a_project(world: World) -> None:
    await world.apply(document("Queue", "small"), document("Queue", "reserved"), model())
    await world.apply(project(queues=["small"], limits={"maxReplicas": 2}))
    held = endpoint("e", queue="reserved")
    changes: tuple[dict[str, Any], ...] = (
        {"queues": []},
        {"queues": ["small", "reserved"]},
        {"limits": {}},
        {"limits": {"maxReplicas": 9}},
    )
    for change in changes:
        (name,) = change
        assert refusal(await world.apply(project(**change), key="acme-admin")) == (403, f"spec.{name}")
    for kept in ({}, {"displayName": "Search", "queues": ["small"]}, {"limits": {"maxReplicas": 2}}):
        answer = await world.apply(project(**kept), key="acme-admin")
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["resource"]["spec"]["limits"] == {"maxReplicas": 2}
        assert await queues_of(world) == ["small"]
    # Also not within one request, whatever the order.
    answer = await world.apply(held, project(), key="acme-admin")
    assert refusal(answer) == (400, "[0].spec.queue")
    assert (await world.apply(endpoint("e", queue="small"), key="search-member")).status_code == 200


async def test_a_new_project_is_no_way_around_the_limits_of_its_tenant(world: World) -> None:
    await world.apply(document("Queue", "small"), document("Queue", "reserved"))
    await world.apply(project(queues=["small"], limits={"maxReplicas": 2, "maxPriority": -5}))
    own = (project("mine"), model(where="mine"))
    assert refusal(await world.apply(project("mine", queues=["reserved"]), key="acme-admin")) == (
        403,
        "spec.queues",
    )
    assert (await world.apply(*own, key="acme-admin")).status_code == 200
    assert await queues_of(world, "mine") == ["small"]
    for spec, wrong in (
        ({"queue": "reserved"}, (400, "spec.queue")),
        ({"queue": "small", "replicas": 3}, (403, "spec.limits.maxReplicas")),
        ({"queue": "small", "priority": 1}, (403, "spec.priority")),
    ):
        assert refusal(await world.apply(endpoint("e", "mine", **spec), key="acme-admin")) == wrong
    # Deleting what is limited and making it anew is none either.
    for name in ("search-member", "search-agent"):
        await world.request("acme-admin", "DELETE", f"/api/v1/keys/{name}")
    await world.request("acme-admin", "DELETE", "/api/v1/models/tiny?project=mine")
    assert (await world.request("acme-admin", "DELETE", "/api/v1/projects/mine")).status_code == 200
    assert (await world.request("acme-admin", "DELETE", "/api/v1/projects/search")).status_code == 403
    assert (await world.request("admin", "DELETE", "/api/v1/projects/search")).status_code == 200


async def test_queues_and_limits_of_a_tenant_hold_for_its_projects(world: World) -> None:
    await world.apply(document("Queue", "small"), model())
    await world.apply(document("Tenant", "acme", queues=["small"], limits={"maxEndpoints": 1}, maxProjects=2))
    assert refusal(await world.apply(endpoint("e"), key="search-member")) == (400, "spec.queue")
    assert (await world.apply(endpoint("e", queue="small"), key="search-member")).status_code == 200
    full = await world.apply(endpoint("f", queue="small"), key="search-member")
    assert refusal(full) == (403, "spec.limits.maxEndpoints")
    assert full.json()["error"]["code"] == "limit_reached"
    assert (await world.apply(project("two"), key="acme-admin")).status_code == 200
    assert refusal(await world.apply(project("three"), key="acme-admin")) == (403, "spec.limits.maxProjects")
    assert refusal(await world.apply(document("Tenant", "acme"), key="acme-admin"))[0] == 403


async def test_a_project_cannot_take_the_name_of_a_folder_of_models(world: World) -> None:
    (world.context.settings.home / "models" / "tiny-llama").mkdir(parents=True)
    refused = await world.apply(project("tiny-llama"), key="acme-admin")
    taken = await world.apply(project("lab"), key="acme-admin")
    assert refused.status_code == taken.status_code == 409
    assert refused.json()["error"]["message"].replace("tiny-llama", "lab") == taken.json()["error"]["message"]


# Priorities and replicas


async def test_priorities_have_a_ceiling_and_the_default_of_a_queue_passes(world: World) -> None:
    await world.apply(
        model(), document("Queue", "high", defaultPriority=50), document("Queue", "low", maxPriority=-3)
    )
    for queue, priority, allowed in (
        ("default", 0, True),
        ("default", 1, False),
        ("default", 10**6, False),
        ("default", -7, True),
        ("high", 50, True),
        ("high", 51, False),
        ("low", 0, True),
        ("low", 1, False),
    ):
        wanted = endpoint("e", queue=queue, priority=priority)
        answer = await world.apply(wanted, key="search-member")
        assert answer.status_code == (200 if allowed else 403), (queue, priority, answer.text)
    await world.apply(project(limits={"maxPriority": 9}))
    assert (await world.apply(endpoint("e", priority=9), key="search-member")).status_code == 200
    # What the platform gave stays while others change the rest, and does not go along to another queue.
    await world.apply(endpoint("e", priority=100))
    changed = endpoint("e", priority=100, replicas=2)
    assert (await world.apply(changed, key="search-member")).status_code == 200
    changed["spec"]["queue"] = "high"
    assert refusal(await world.apply(changed, key="search-member")) == (403, "spec.priority")


async def test_jobs_are_held_to_priorities_and_numbers(world: World) -> None:
    await world.apply(model(), project(limits={"maxJobs": 1, "maxPriority": 3}))
    upload = {"files": {"file": ("a.jsonl", _dataset())}, "data": {"purpose": "fine-tune"}}
    file = (await world.request("search-member", "POST", "/v1/files", **upload)).json()["id"]

    async def job(suffix: str, **placement: Any) -> httpx.Response:
        body = {"model": "tiny", "training_file": file, "suffix": suffix, "computility": placement}
        return await world.request("search-member", "POST", "/v1/fine_tuning/jobs", json=body)

    assert refusal(await job("a", priority=4)) == (403, "computility.priority")
    assert (await job("a", priority=3)).status_code == 200
    full = await job("b")
    assert (refusal(full), full.json()["error"]["code"]) == ((403, "spec.limits.maxJobs"), "limit_reached")
    await world.apply(document("Tenant", "acme", queues=["small"]))
    assert refusal(await job("c")) == (403, "computility.queue")


def _dataset() -> bytes:
    line = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'
    return line.encode() * 10


# What a project may hold


async def test_a_project_holds_no_more_than_it_may(world: World) -> None:
    limits = {"maxModels": 2, "maxEndpoints": 1, "maxReplicas": 3, "maxDocumentBytes": 20_000}
    await world.apply(project(limits=limits))
    assert (await world.apply(model("a"), model("b"), key="search-member")).status_code == 200
    assert refusal(await world.apply(model("c"), key="search-member")) == (403, "spec.limits.maxModels")
    assert (await world.apply(model("a", source="org/new"), key="search-member")).status_code == 200
    grown = await world.apply(endpoint("e", model="a", replicas=4), key="search-member")
    assert refusal(grown) == (403, "spec.limits.maxReplicas")
    large = endpoint("e", model="a", replicas=3)
    large["metadata"]["annotations"] = {"note": "x" * 6_000}
    answer = await world.apply(large, key="search-member")
    assert refusal(answer) == (403, "spec.limits.maxDocumentBytes"), "a workload is made for each replica"
    large["metadata"]["annotations"] = {"note": "x" * 100}
    assert (await world.apply(large, key="search-member")).status_code == 200
    dry = await world.request(
        "search-member", "PUT", "/api/v1/endpoints/f?dryRun=true", json=endpoint("f", model="a")
    )
    assert refusal(dry) == (403, "spec.limits.maxEndpoints")
    await world.apply(project(limits={**limits, "maxReplicas": 1}))
    large["spec"]["replicas"] = 2
    assert (await world.apply(large, key="search-member")).status_code == 200, "less than before may stay"


async def test_files_are_held_to_their_number_and_bytes(world: World) -> None:
    await world.apply(project(limits={"maxFiles": 2, "maxFileBytes": 1000}))

    async def upload(size: int) -> httpx.Response:
        files = {"file": ("a.jsonl", b"x" * size)}
        return await world.request(
            "search-member", "POST", "/v1/files", files=files, data={"purpose": "fine-tune"}
        )

    assert (await upload(600)).status_code == 200
    assert refusal(await upload(401)) == (403, "spec.limits.maxFileBytes")
    assert (await upload(400)).status_code == 200
    await world.apply(project(limits={"maxFiles": 2, "maxFileBytes": 10_000}))
    assert refusal(await upload(1)) == (403, "spec.limits.maxFiles")
    kept = (await world.request("search-member", "GET", "/v1/files")).json()["data"]
    assert sorted(file["bytes"] for file in kept) == [400, 600]
    await world.request("search-member", "DELETE", f"/v1/files/{kept[0]['id']}")
    assert (await upload(1)).status_code == 200


async def test_many_endpoints_are_no_way_around_the_limit_of_replicas(world: World) -> None:
    await world.apply(project(limits={"maxTotalReplicas": 5}), model())

    async def ask(*replicas: int) -> httpx.Response:
        documents = [
            document("Endpoint", f"e{number}", "search", replicas=count)
            for number, count in enumerate(replicas)
        ]
        return await world.apply(*documents, key="search-member")

    assert refusal(await ask(3, 3)) == (403, "spec.limits.maxTotalReplicas")
    assert (await ask(3, 2)).status_code == 200
    assert refusal(await ask(4)) == (403, "spec.limits.maxTotalReplicas")
    assert refusal(await ask(3, 2, 1)) == (403, "spec.limits.maxTotalReplicas")
    assert (await ask(1, 4)).status_code == 200
    await world.apply(project(limits={"maxTotalReplicas": 2}))
    assert (await ask(1, 3)).status_code == 200


async def test_a_project_shows_what_it_uses_of_its_limits(world: World) -> None:
    await world.apply(
        project(limits={"maxModels": 7}), document("Tenant", "acme", limits={"maxKeys": 5}), model()
    )
    for who in ("acme-admin", "search-member"):
        shown = (await world.request(who, "GET", "/api/v1/projects/search/limits")).json()
        rows = {row["name"]: (row["used"], row["limit"], row["origin"]) for row in shown["items"]}
        assert rows["maxModels"] == (1, 7, "project")
        assert rows["maxKeys"] == (2, 5, "tenant")
        assert rows["maxEndpoints"] == (0, 200, "settings")
        assert rows["maxPriority"] == (None, 0, "settings")
        assert rows["maxDocumentBytes"][0] > 0
    assert (await world.request("lab-member", "GET", "/api/v1/projects/search/limits")).status_code == 404
    assert (await world.request("search-agent", "GET", "/api/v1/projects/search/limits")).status_code == 403


# What is shared


async def test_two_shared_endpoints_cannot_have_one_name(world: World) -> None:
    await world.apply(model(shared=True), endpoint("big", servedName="big-70b", shared=True))
    other = endpoint("other", "lab", servedName="big-70b", shared=True)
    assert refusal(await world.apply(other)) == (409, "spec.servedName")
    other["spec"]["servedName"] = "chat"
    assert (await world.apply(other)).status_code == 200
    other["spec"]["servedName"] = "big-70b"
    assert refusal(await world.apply(other)) == (409, "spec.servedName")
    for who in ("lab-member", "globex-admin"):
        assert refusal(await world.apply(other, key=who)) == (403, "spec.servedName")


@pytest.mark.parametrize("who", PEOPLE)
async def test_what_is_shared_changes_only_by_the_platform(world: World, who: str) -> None:
    shared_model = model(shared=True)
    shared = endpoint("e", servedName="chat", shared=True)
    await world.apply(shared_model, model("other"), shared)

    def changed(document: dict[str, Any], **spec: Any) -> dict[str, Any]:
        return {**document, "spec": {**document["spec"], **spec}}

    for wanted, path in (
        (changed(shared, servedName="big"), "spec.servedName"),
        (changed(shared, servedName=None), "spec.servedName"),
        (changed(shared, model="other"), "spec.model"),
        (changed(shared, adapters="own"), "spec.adapters"),
        (changed(shared, shared=False), "spec.shared"),
        (changed(shared_model, source="evil/weights"), "spec.source"),
        (changed(shared_model, tasks=["embeddings"]), "spec.tasks"),
        (changed(shared_model, shared=False), "spec.shared"),
        (endpoint("mine", shared=True), "spec.shared"),
    ):
        assert refusal(await world.apply(wanted, key=who)) == (403, path)
    assert (await world.apply(changed(shared, replicas=2), key=who)).status_code == 200
    for path in ("endpoints/e", "models/tiny"):
        gone = await world.request(who, "DELETE", f"/api/v1/{path}?project=search")
        assert gone.status_code in (403, 409), gone.text


async def test_a_private_namesake_takes_nothing_from_others(world: World) -> None:
    await world.apply(model(shared=True), endpoint("big", servedName="big-70b", shared=True))
    before = await build_routing_table(world.context.store)
    answer = await world.apply(endpoint("mine", "lab", servedName="big-70b"), key="lab-member")
    assert answer.status_code == 200
    same = await world.apply(endpoint("older", servedName="big-70b"), key="search-member")
    assert same.status_code == 200
    after = await build_routing_table(world.context.store)
    assert {r for r in after.routes if r.project == "search"} == {
        r for r in before.routes if r.project == "search"
    }


# What flags were given for


@pytest.mark.parametrize("who", PEOPLE)
async def test_flags_are_not_taken_over_to_other_weights(world: World, who: str) -> None:
    vetted = endpoint("vetted", engine={"args": ["--trust-remote-code"]})
    await world.apply(model(), model("other"), vetted)
    vetted["spec"]["model"] = "other"
    assert refusal(await world.apply(vetted, key=who)) == (403, "spec.model")
    assert refusal(await world.apply(model(source="evil/code"), key=who)) == (403, "spec.source")
    assert (await world.request(who, "DELETE", "/api/v1/models/tiny?project=search")).status_code == 409
    assert (await world.apply(model(tasks=["chat"]), key=who)).status_code == 200
    assert (await world.apply(model("other", source="org/new"), key=who)).status_code == 200


def in_two_roles(name: str, **decode: Any) -> dict[str, Any]:
    cpu = {"devices": {"vendors": ["cpu"]}}
    return endpoint(name, mode="disaggregated", prefill=cpu, decode={**cpu, **decode})


@pytest.mark.parametrize("who", PEOPLE)
async def test_arguments_of_a_role_are_flags_too(world: World, who: str) -> None:
    wanted = in_two_roles("vetted", args=["--trust-remote-code"])
    await world.apply(model(), model("other"))
    assert refusal(await world.apply(wanted, key=who)) == (403, "spec.decode.args")
    assert (await world.apply(wanted)).status_code == 200, "the platform may"
    assert (await world.apply(wanted, key=who)).status_code == 200, "what is there may stay"
    wanted["spec"]["model"] = "other"
    assert refusal(await world.apply(wanted, key=who)) == (403, "spec.model")
    assert refusal(await world.apply(model(source="evil/code"), key=who)) == (403, "spec.source")


async def test_the_engines_of_both_roles_count_towards_the_limits(world: World) -> None:
    await world.apply(project(limits={"maxReplicas": 3}), model())
    assert refusal(await world.apply(in_two_roles("big", replicas=3), key="search-member")) == (
        403,
        "spec.limits.maxReplicas",
    )
    assert (await world.apply(in_two_roles("big", replicas=2), key="search-member")).status_code == 200


async def test_an_engine_counts_on_each_of_its_nodes(world: World) -> None:
    await world.apply(project(limits={"maxReplicas": 4, "maxTotalReplicas": 5}), model())

    async def ask(name: str, **spec: Any) -> httpx.Response:
        spec = {"devices": {"vendors": ["nvidia"]}, **spec}
        return await world.apply(document("Endpoint", name, "search", **spec), key="search-member")

    assert refusal(await ask("wide", nodes=5)) == (403, "spec.limits.maxReplicas")
    scaled = {"autoscaling": {"maxReplicas": 2}}
    assert refusal(await ask("wide", nodes=3, **scaled)) == (403, "spec.limits.maxReplicas")
    assert (await ask("wide", nodes=2, **scaled)).status_code == 200
    assert refusal(await ask("other", nodes=2)) == (403, "spec.limits.maxTotalReplicas")
    assert (await ask("other")).status_code == 200
    answer = await world.request("search-member", "GET", "/api/v1/projects/search/limits")
    used = {row["name"]: row["used"] for row in answer.json()["items"]}
    assert (used["maxReplicas"], used["maxTotalReplicas"]) == (4, 5)


@pytest.mark.parametrize("who", PEOPLE)
async def test_no_own_model_slips_under_flags_that_were_given_for_a_shared_one(
    world: World, who: str
) -> None:
    await world.apply(model("base", "lab", shared=True))
    await world.apply(endpoint("vetted", model="base", engine={"env": {"A": "1"}}))
    refused = await world.apply(model("base", source="evil/code"), key=who)
    assert refusal(refused) == (403, "metadata.name")
    refused = await world.apply(model("base"), endpoint("new", model="base"), key=who)
    assert refusal(refused) == (403, "[0].metadata.name")
    assert (await world.apply(model("base"))).status_code == 200, "the platform may"

"""Resources over HTTP: applied, listed, guarded, refused with the path of each mistake."""

from typing import Any

import pytest

from common.clock import rfc3339
from common.resources import Workload
from tests.integration.control.conftest import PLURAL_OF, SPECS, World, document

pytestmark = pytest.mark.integration
BY_USERS = ("Tenant", "Project", "Queue", "Workload", "Model", "Endpoint", "Adapter", "Price")
CLUSTER = ("Tenant", "Project", "Queue", "Price", "Node")


def place_of(kind: str) -> str | None:
    return None if kind in CLUSTER else "search"


@pytest.mark.parametrize("kind", BY_USERS)
async def test_every_kind_is_applied_read_listed_and_deleted(world: World, kind: str) -> None:
    project = place_of(kind)
    await world.apply(document("Model", "tiny", "search"))
    path, params = f"/api/v1/{PLURAL_OF[kind]}/one", {"project": project} if project else {}
    async with world.client("admin") as admin:
        made = await admin.put(path, json=document(kind, "one", project), params=params)
        assert (made.status_code, made.json()["outcome"]) == (200, "created"), made.text
        again = await admin.put(path, json=document(kind, "one", project))
        assert again.json()["outcome"] == "unchanged"
        read = await admin.get(path, params=params)
        assert read.json() == made.json()["resource"]
        listed = await admin.get(f"/api/v1/{PLURAL_OF[kind]}", params=params)
        assert read.json() in listed.json()["items"]
        assert (await admin.delete(path, params=params)).status_code == 200
        gone = await admin.get(path, params=params)
    assert gone.status_code == 404
    assert gone.json()["error"]["type"] == "not_found_error"


async def test_lists_are_filtered_by_project_and_labels(world: World) -> None:
    first, second = document("Model", "a", "search"), document("Model", "b", "search")
    first["metadata"]["labels"] = {"tier": "gold", "team": "x"}
    second["metadata"]["labels"] = {"tier": "gold"}
    await world.apply(first, second, document("Model", "c", "lab"))

    async def names(**params: str) -> list[str]:
        answer = await world.request("admin", "GET", "/api/v1/models", params=params)
        return [item["metadata"]["name"] for item in answer.json()["items"]]

    assert await names() == ["c", "a", "b"]
    assert await names(project="search") == ["a", "b"]
    assert await names(labels="tier=gold,team=x") == ["a"]
    wrong = await world.request("admin", "GET", "/api/v1/models", params={"labels": "tier"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "labels")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"spec": {**SPECS["Workload"], "rolez": []}}, "spec.rolez"),
        ({"spec": {"roles": [{"name": "a", "command": ["b"], "replicas": "c"}]}}, "spec.roles[0].replicas"),
        ({"spec": {"roles": [{"name": "main"}]}}, "spec.roles[0].command"),
        ({"spec": {**SPECS["Workload"], "queue": "fast"}}, "spec.queue"),
        ({"metadata": {"name": "w"}}, "metadata.project"),
        ({"metadata": {"name": "Not A Name", "project": "search"}}, "metadata.name"),
        ({"kind": "Spaceship"}, "kind"),
        ({"kind": ["Workload"]}, "kind"),
        ({"spec": {"roles": [{"name": "main", "command": ["a", "b\0"]}]}}, "spec.roles[0].command[1]"),
        ({"apiVersion": "v9"}, "apiVersion"),
        ({"status": {"phase": "Ready"}}, "status"),
        ({"metadata": {"name": "w", "project": "search", "owner": {"kind": "A", "name": "b", "uid": "c"}}},
         "metadata.owner"),
    ],
)  # fmt: skip
async def test_a_wrong_document_is_refused_naming_the_path(
    world: World, change: dict[str, Any], path: str
) -> None:
    answer = await world.request(
        "admin", "POST", "/api/v1/apply", json={**document("Workload", "w", "search"), **change}
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == path
    assert path in error["message"]
    assert (await world.request("admin", "GET", "/api/v1/workloads")).json()["items"] == []


async def test_a_list_is_written_whole_or_not_at_all(world: World) -> None:
    good, bad = document("Model", "good", "search"), document("Model", "bad", "search", sauce="x")
    answer = await world.apply(good, bad)
    assert answer.status_code == 400
    assert answer.json()["error"]["problems"][0]["path"] == "[1].spec.sauce"
    unmet = await world.apply(good, document("Endpoint", "e", "search", model="nowhere"))
    assert unmet.json()["error"]["param"] == "[1].spec.model"
    assert (await world.request("admin", "GET", "/api/v1/models")).json()["items"] == []


async def test_what_one_request_brings_may_refer_to_each_other(world: World) -> None:
    answer = await world.apply(
        document("Endpoint", "chat", "new", queue="fast"),
        document("Model", "tiny", "new"),
        document("Project", "new", tenant="initech", queues=["fast"]),
        document("Queue", "fast"),
        document("Tenant", "initech"),
    )
    assert answer.status_code == 200, answer.text
    assert {one["outcome"] for one in answer.json()["results"]} == {"created"}


@pytest.mark.parametrize(
    ("made", "param"),
    [
        (document("Project", "p", tenant="nobody"), "spec.tenant"),
        (document("Endpoint", "e", "search", model="nowhere"), "spec.model"),
        (document("Adapter", "a", "search", model="nowhere"), "spec.model"),
        (document("Price", "p", tenant="nobody"), "spec.tenant"),
        (document("Node", "n"), "metadata.name"),
    ],
)
async def test_references_must_lead_somewhere(world: World, made: dict[str, Any], param: str) -> None:
    answer = await world.request("admin", "POST", "/api/v1/apply", json=made)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_project_uses_only_its_queues(world: World) -> None:
    await world.apply(document("Queue", "slow"), document("Project", "search", queues=["slow"]))
    answer = await world.apply(document("Workload", "w", "search"))
    assert answer.status_code == 400
    assert "it may use slow" in answer.json()["error"]["message"]


async def test_a_stale_resource_version_is_refused(world: World) -> None:
    first = (await world.apply(document("Model", "m", "search"))).json()["results"][0]["resource"]
    await world.apply(document("Model", "m", "search", source="/models/other"))
    stale = document("Model", "m", "search", source="org/third")
    stale["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
    answer = await world.request("search-member", "PUT", "/api/v1/models/m", json=stale)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "stale_resource_version"
    assert answer.json()["error"]["param"] == "metadata.resourceVersion"
    version = first["metadata"]["resourceVersion"]
    refused = await world.request("search-member", "DELETE", f"/api/v1/models/m?resourceVersion={version}")
    assert refused.status_code == 409


async def test_a_dry_run_checks_and_writes_nothing(world: World) -> None:
    made = document("Model", "m", "search")
    answer = await world.request("search-member", "PUT", "/api/v1/models/m?dryRun=true", json=made)
    assert answer.json()["outcome"] == "created"
    assert (await world.request("search-member", "GET", "/api/v1/models/m")).status_code == 404
    await world.apply(made)
    assert (await world.request("search-member", "DELETE", "/api/v1/models/m?dryRun=true")).status_code == 200
    assert (await world.request("search-member", "GET", "/api/v1/models/m")).status_code == 200
    bad = await world.request(
        "search-member",
        "POST",
        "/api/v1/apply?dryRun=true",
        json=document("Endpoint", "e", "search", model="x"),
    )
    assert bad.status_code == 400


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/api/v1/models/other", "metadata.name"),
        ("/api/v1/endpoints/m", "kind"),
        ("/api/v1/models/m?project=lab", "metadata.project"),
    ],
)
async def test_a_body_that_does_not_fit_its_url_is_refused(world: World, path: str, param: str) -> None:
    answer = await world.request("admin", "PUT", path, json=document("Model", "m", "search"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_malformed_json_names_the_line(world: World) -> None:
    answer = await world.request("admin", "POST", "/api/v1/apply", content=b'{"kind":\n "Model",}')
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("line 2")


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"a":' + b"1" * 5000 + b"}", b"\xff\xfe"],
    ids=["too deep", "too many digits", "not UTF-8"],
)
async def test_a_body_that_no_parser_takes_is_bad_input(world: World, content: bytes) -> None:
    answer = await world.request("admin", "POST", "/api/v1/apply", content=content)
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["usage?from=1" + "0" * 30, "watch?since=1" + "0" * 30])
async def test_a_number_that_is_out_of_all_range_is_bad_input(world: World, path: str) -> None:
    answer = await world.request("admin", "GET", f"/api/v1/{path}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("from", "since")


async def test_prices_in_force_are_followed_by_others_and_never_changed(world: World) -> None:
    """Usage that ended before and is posted after must find the price of its time."""
    items = [{"meter": "prompt_tokens", "microcreditsPerMillion": 2_000_000}]
    old = document("Price", "old")
    del old["spec"]["effectiveFrom"]
    await world.apply(old)
    world.clock.advance(60)
    assert (await world.apply(old)).json()["results"][0]["outcome"] == "unchanged"
    changes: list[tuple[dict[str, Any], str]] = [
        ({"items": items}, "spec.items"),
        ({"effectiveFrom": "2021-01-01T00:00:00Z"}, "spec"),
        ({"effectiveUntil": "2022-01-01T00:00:00Z"}, "spec.effectiveUntil"),
    ]
    for change, param in changes:
        refused = await world.apply({**old, "spec": {**old["spec"], **change}})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    for name in ("old", "new"):
        backdated = await world.apply(document("Price", name, effectiveFrom="2023-01-01T00:00:00Z"))
        assert backdated.status_code == 400, "no book begins in the past"
    deleted = await world.request("admin", "DELETE", "/api/v1/prices/old")
    assert (deleted.status_code, deleted.json()["error"]["code"]) == (409, "in_force")
    ended = {**old, "spec": {**old["spec"], "effectiveUntil": "2099-01-01T00:00:00Z"}}
    assert (await world.apply(ended)).status_code == 200
    later = document("Price", "new", effectiveFrom="2098-01-01T00:00:00Z")
    assert (await world.apply(later)).status_code == 200
    later["spec"]["items"] = items
    assert (await world.apply(later)).status_code == 200, "it is not in force yet"
    assert (await world.request("admin", "DELETE", "/api/v1/prices/new")).status_code == 200


async def test_a_tenant_goes_with_prices_that_are_over_and_they_still_rate_what_it_used(world: World) -> None:
    await world.apply(document("Tenant", "brief"))
    own = document("Price", "own", tenant="brief")
    del own["spec"]["effectiveFrom"]
    await world.apply(own)
    world.clock.advance(60)
    refused = await world.request("admin", "DELETE", "/api/v1/tenants/brief")
    assert "Price/own" in refused.json()["error"]["message"]
    own["spec"]["effectiveUntil"] = rfc3339(world.clock.now_ms())
    assert (await world.apply(own)).status_code == 200
    world.clock.advance(60)
    assert (await world.request("admin", "DELETE", "/api/v1/tenants/brief")).status_code == 200
    assert (await world.request("admin", "GET", "/api/v1/prices/own")).status_code == 200


async def test_what_is_in_use_is_not_deleted(world: World) -> None:
    await world.apply(document("Model", "tiny", "search"), document("Endpoint", "chat", "search"))
    for path, user in [
        ("/api/v1/tenants/acme", "Project/search"),
        ("/api/v1/projects/search", "Endpoint/search/chat"),
        ("/api/v1/queues/default", "Endpoint/search/chat"),
        ("/api/v1/models/tiny?project=search", "Endpoint/search/chat"),
    ]:
        answer = await world.request("admin", "DELETE", path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "in_use"), path
        assert user in answer.json()["error"]["message"]


async def test_an_empty_project_goes_with_its_revoked_keys(world: World) -> None:
    refused = await world.request("acme-admin", "DELETE", "/api/v1/projects/search")
    assert "ApiKey/search-member" in refused.json()["error"]["message"]
    for name in ("search-member", "search-agent"):
        await world.request("acme-admin", "DELETE", f"/api/v1/keys/{name}")
    assert (await world.request("acme-admin", "DELETE", "/api/v1/projects/search")).status_code == 200
    left = (await world.request("admin", "GET", "/api/v1/keys")).json()["items"]
    assert not [key for key in left if key["spec"].get("project") == "search"]


@pytest.mark.parametrize("kind", ["File", "FineTune", "Batch", "ApiKey"])
async def test_kinds_of_controllers_are_refused_saying_how_they_are_made(world: World, kind: str) -> None:
    spec = {"role": "platform-admin"} if kind == "ApiKey" else SPECS[kind]
    made = {**document("Tenant", "x"), "kind": kind, "spec": spec}
    if kind != "ApiKey":
        made["metadata"]["project"] = "search"
    for method, path in (("POST", "/api/v1/apply"), ("PUT", f"/api/v1/{PLURAL_OF[kind]}/x")):
        answer = await world.request("admin", method, path, json=made)
        assert answer.status_code == 403
        assert "POST /" in answer.json()["error"]["message"]


async def test_only_admins_of_the_platform_register_adapters_and_share(world: World) -> None:
    await world.apply(document("Model", "tiny", "search"))
    adapter = await world.apply(document("Adapter", "a", "search"), key="search-member")
    shared = await world.apply(document("Model", "tiny", "search", shared=True), key="acme-admin")
    assert (adapter.status_code, shared.status_code) == (403, 403)
    assert (await world.apply(document("Model", "tiny", "search", shared=True))).status_code == 200
    # Another tenant may now serve it, and only then.
    served = await world.apply(document("Endpoint", "mine", "lab"), key="lab-member")
    assert served.status_code == 200, served.text
    held = await world.request("search-member", "DELETE", "/api/v1/models/tiny")
    assert held.status_code == 409
    assert "lab" not in held.json()["error"]["message"]


async def test_a_node_is_cordoned_by_name_and_never_made(world: World) -> None:
    await world.store_directly("Node", "n1")
    answer = await world.apply(document("Node", "n1", cordoned=True))
    assert answer.json()["results"][0]["resource"]["spec"]["cordoned"] is True
    assert (await world.apply(document("Node", "n1"), key="search-member")).status_code == 403


async def test_applying_keeps_what_controllers_observed(world: World) -> None:
    await world.apply(document("Workload", "w", "search"))
    workload = await world.context.store.get(Workload, "w", "search")
    workload.status.phase = "Running"
    await world.context.store.set_status(workload)
    answer = await world.apply(document("Workload", "w", "search", priority=5))
    shown = answer.json()["results"][0]["resource"]
    assert (shown["status"]["phase"], shown["spec"]["priority"]) == ("Running", 5)


async def test_an_unknown_path_and_method_answer_in_the_shape_of_errors(world: World) -> None:
    for method, path, status in (("GET", "/api/v1/spaceships", 404), ("POST", "/api/v1/models", 405)):
        answer = await world.request("admin", method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}


async def test_documents_that_were_read_can_be_applied_again_without_status(world: World) -> None:
    shown = (await world.apply(document("Model", "tiny", "search"))).json()["results"][0]["resource"]
    shown.pop("status")
    again = await world.request("search-member", "PUT", "/api/v1/models/tiny", json=shown)
    assert again.json()["outcome"] == "unchanged", again.text

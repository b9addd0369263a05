"""Keys, roles and tenants: what is refused, what is hidden, what is kept of it."""

from typing import Any

import httpx
import pytest

from common.ids import secret_digest
from common.resources import KINDS, ApiKey
from tests.integration.control.conftest import PLURAL_OF, SPECS, TOKEN, World, document

pytestmark = pytest.mark.integration
IN_PROJECT = ("Workload", "Model", "Endpoint", "Adapter", "Job", "File", "FineTune", "Batch")
OUTSIDERS = ("search-member", "acme-admin")


async def fill_lab(world: World) -> None:
    """One resource of every kind in the other tenant's project, and a price of its own."""
    for kind in ("Model", "Workload", "Endpoint", "Adapter", "File", "FineTune", "Batch"):
        await world.store_directly(kind, "tiny" if kind == "Model" else "theirs", "lab")
    await world.apply(document("Price", "theirs", tenant="globex"))


def _name(kind: str) -> str:
    return {"Model": "tiny", "Tenant": "globex", "Project": "lab"}.get(kind, "theirs")


async def test_other_tenants_things_do_not_exist(world: World) -> None:
    await fill_lab(world)
    for who in OUTSIDERS:
        for kind in (*IN_PROJECT, "Tenant", "Project", "Price"):
            plural, name = PLURAL_OF[kind], _name(kind)
            query = "?project=lab" if kind in IN_PROJECT else ""
            read = await world.request(who, "GET", f"/api/v1/{plural}/{name}{query}")
            assert read.status_code == 404, (who, kind, read.text)
            listed = await world.request(who, "GET", f"/api/v1/{plural}")
            assert name not in [item["metadata"]["name"] for item in listed.json()["items"]]
            if query:
                assert (await world.request(who, "GET", f"/api/v1/{plural}{query}")).status_code == 404


@pytest.mark.parametrize("kind", ["Workload", "Model", "Endpoint"])
async def test_nobody_writes_into_another_tenants_project(world: World, kind: str) -> None:
    await fill_lab(world)
    name = _name(kind)
    for who in OUTSIDERS:
        put = await world.request(
            who, "PUT", f"/api/v1/{PLURAL_OF[kind]}/{name}", json=document(kind, name, "lab")
        )
        applied = await world.apply(document(kind, "new", "lab"), key=who)
        deleted = await world.request(who, "DELETE", f"/api/v1/{PLURAL_OF[kind]}/{name}?project=lab")
        hidden = 403 if kind == "Workload" else 404  # no such role may write any
        assert {put.status_code, applied.status_code, deleted.status_code} == {hidden}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/workloads/theirs/explain?project=lab",
        "/api/v1/workloads/theirs/logs?project=lab",
        "/api/v1/events?project=lab",
        "/api/v1/watch?project=lab",
        "/api/v1/usage?project=lab",
        "/api/v1/usage?tenant=globex",
    ],
)
async def test_no_view_shows_another_tenants_things(world: World, path: str) -> None:
    await fill_lab(world)
    for who in OUTSIDERS:
        assert (await world.request(who, "GET", path)).status_code == 404


async def test_a_tenant_admin_cannot_reach_over_to_another_tenant(world: World) -> None:
    async with world.client("acme-admin") as admin:
        stolen = await admin.put("/api/v1/projects/lab", json=document("Project", "lab"))
        moved = await admin.put(
            "/api/v1/projects/search", json=document("Project", "search", tenant="globex")
        )
        deleted = await admin.delete("/api/v1/projects/lab")
        key = await admin.post("/api/v1/keys", json={"name": "k", "role": "member", "project": "lab"})
        higher = await admin.post("/api/v1/keys", json={"name": "k", "role": "platform-admin"})
        other = await admin.post(
            "/api/v1/keys", json={"name": "k", "role": "tenant-admin", "tenant": "globex"}
        )
        revoked = await admin.delete("/api/v1/keys/lab-member")
        taken = await admin.post(
            "/api/v1/keys", json={"name": "lab-member", "role": "member", "project": "search"}
        )
        seen = {item["metadata"]["name"] for item in (await admin.get("/api/v1/keys")).json()["items"]}
    assert stolen.status_code == 409
    assert moved.status_code == 400
    assert [deleted.status_code, key.status_code, higher.status_code] == [404, 404, 403]
    assert [other.status_code, revoked.status_code, taken.status_code] == [404, 404, 409]
    assert seen == {"acme-admin", "search-member", "search-agent"}


async def test_projects_cannot_move_between_tenants(world: World) -> None:
    answer = await world.apply(document("Project", "search", tenant="globex"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "spec.tenant")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_agent_reads_models_and_nothing_else(world: World, kind: str) -> None:
    answer = await world.request("search-agent", "GET", f"/api/v1/{PLURAL_OF[kind]}")
    assert answer.status_code == (200 if kind == "Model" else 403)
    if kind in SPECS:
        project = "search" if kind in IN_PROJECT else None
        refused = await world.apply(document(kind, "x", project), key="search-agent")
        assert refused.status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/models"),
        ("POST", "/api/v1/apply"),
        ("GET", "/api/v1/watch"),
        ("GET", "/api/v1/usage"),
        ("GET", "/api/v1/whoami"),
        ("GET", "/v1/files"),
        ("GET", "/nowhere"),
        ("GET", "/internal/v1/routes"),
        ("POST", "/internal/v1/usage-events"),
        ("POST", "/internal/v1/bootstrap"),
        ("POST", "/internal/v1/drain"),
    ],
)
async def test_nothing_is_served_without_a_key(world: World, method: str, path: str) -> None:
    unknown = f"Bearer {'ck-' + 'x' * 43}"
    for headers in ({}, {"Authorization": unknown}, {"Authorization": "Basic eDp5"}):
        answer = await world.request(None, method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    if path.startswith("/internal"):
        assert (await world.request("admin", method, path)).status_code == 401


async def test_a_secret_is_shown_once_and_kept_as_a_digest(world: World) -> None:
    secret = await world.make_key("fresh", "member", project="search")
    kept = await world.context.store.get(ApiKey, "fresh")
    assert kept.status.digest == secret_digest(secret)
    assert secret not in kept.model_dump_json()
    assert secret.startswith(kept.status.hint)
    for path in ("/api/v1/keys", "/api/v1/apikeys", "/api/v1/apikeys/fresh", "/api/v1/audit",
                 "/api/v1/watch?since=0&timeout_seconds=0.01", "/api/v1/events"):  # fmt: skip
        answer = await world.request("admin", "GET", path)
        assert answer.status_code == 200
        assert kept.status.digest not in answer.text
        assert secret not in answer.text


async def test_a_revoked_key_is_refused_at_once_and_its_name_can_be_used_again(world: World) -> None:
    old = await world.make_key("temp", "member", project="search", by="acme-admin")
    assert (await world.request("temp", "GET", "/api/v1/whoami")).json()["tenant"] == "acme"
    taken = await world.request(
        "acme-admin", "POST", "/api/v1/keys", json={"name": "temp", "role": "member", "project": "search"}
    )
    assert taken.status_code == 409
    await world.request("acme-admin", "DELETE", "/api/v1/keys/temp")
    refused = await world.request("temp", "GET", "/api/v1/whoami")
    assert (refused.status_code, "revoked" in refused.text) == (401, True)
    new = await world.make_key("temp", "member", project="search", by="acme-admin")
    assert new != old
    async with world.client(secret=old) as client:
        assert (await client.get("/api/v1/whoami")).status_code == 401


async def test_a_key_expires(world: World) -> None:
    expires_ms = world.clock.now_ms() + 60_000
    await world.make_key("brief", "member", project="search", expiresMs=expires_ms)
    assert (await world.request("brief", "GET", "/api/v1/whoami")).status_code == 200
    world.clock.advance(60)
    refused = await world.request("brief", "GET", "/api/v1/whoami")
    assert (refused.status_code, "expired" in refused.text) == (401, True)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "k", "role": "member"}, "project"),
        ({"name": "k", "role": "tenant-admin"}, "tenant"),
        ({"name": "k", "role": "boss"}, "role"),
        ({"name": "K!", "role": "agent", "project": "search"}, "name"),
        ({"name": "k", "role": "agent", "project": "search", "tenant": "globex"}, "tenant"),
        ({"name": "k", "role": "agent", "project": "search", "expiresMs": 1}, "expiresMs"),
        ({"name": "k", "role": "agent", "project": "search", "colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_key_request_names_the_field(world: World, body: dict[str, Any], param: str) -> None:
    answer = await world.request("admin", "POST", "/api/v1/keys", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def bootstrap(world: World, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return await world.request(None, "POST", "/internal/v1/bootstrap", headers=headers, json=body)


async def test_the_admin_key_is_made_once_and_can_be_replaced(world: World) -> None:
    again = await bootstrap(world)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_bootstrapped")
    rotated = await bootstrap(world, rotate=True)
    assert rotated.status_code == 201
    assert (await world.request("admin", "GET", "/api/v1/whoami")).status_code == 401
    async with world.client(secret=rotated.json()["secret"]) as client:
        assert (await client.get("/api/v1/whoami")).json()["role"] == "platform-admin"


async def test_every_write_and_every_refusal_is_in_the_audit_log(world: World) -> None:
    await world.apply(document("Model", "m", "search"), key="search-member")
    await world.request("search-member", "GET", "/api/v1/projects/lab")
    await world.request("search-member", "GET", "/api/v1/nodes")
    await world.request(None, "GET", "/api/v1/models")
    await world.request("search-member", "GET", "/api/v1/models")
    entries = (await world.request("admin", "GET", "/api/v1/audit?limit=4")).json()["items"]
    told = [(e["principal"], e["action"], e["target"], e["outcome"]) for e in reversed(entries)]
    assert told == [
        ("search-member", "POST", "/api/v1/apply created Model/search/m", "ok"),
        ("search-member", "GET", "/api/v1/projects/lab", "not_found"),
        ("search-member", "GET", "/api/v1/nodes", "forbidden"),
        ("anonymous", "COUNTED", "1 refused requests", "invalid_api_key"),
    ]
    assert (await world.request("acme-admin", "GET", "/api/v1/audit")).status_code == 403


async def test_a_refused_apply_says_in_the_audit_log_what_it_was_about(world: World) -> None:
    wrong = document("Endpoint", "chat", "search", model="none")
    assert (await world.apply(wrong, key="search-member")).status_code == 400
    odd = {"kind": "Model", "metadata": {"name": "x\u0007 y", "project": ["search"]}}
    both = await world.request("search-member", "POST", "/api/v1/apply", json=[odd, 7])
    assert both.status_code == 400
    await world.apply(*[document("Node", f"n{number}") for number in range(30)], key="search-member")
    entries = (await world.request("admin", "GET", "/api/v1/audit?limit=3")).json()["items"]
    first, second, third = (entry["target"] for entry in reversed(entries))
    assert first == "/api/v1/apply refused Endpoint/search/chat"
    assert second == "/api/v1/apply refused Model, a document without kind and name"
    assert third.startswith("/api/v1/apply refused Node/n0, Node/n1, ")
    assert third.endswith("Node/n19 and 10 more")


async def test_events_say_who_wrote_and_name_no_key_of_others(world: World) -> None:
    await world.apply(document("Model", "m", "search"), key="search-member")
    world.clock.advance(1)
    await world.apply(document("Model", "m", "search", shared=True))
    world.clock.advance(1)
    await world.request("admin", "DELETE", "/api/v1/models/m?project=search")
    await world.apply(document("Queue", "default", weight=3))

    async def told(key: str, kind: str) -> list[str]:
        answer = await world.request(key, "GET", f"/api/v1/events?kind={kind}")
        assert "writtenByTenant" not in answer.text
        return [event["message"] for event in answer.json()["items"]]

    made, shared, gone = "created it", "changed spec.shared false → true", "deleted it"
    assert await told("admin", "models") == [
        f"key search-member {made}",
        f"key admin {shared}",
        f"key admin {gone}",
    ]
    assert await told("search-member", "models") == [
        f"key search-member {made}",
        f"the platform {shared}",
        f"the platform {gone}",
    ]
    assert await told("lab-member", "models") == [f"the platform {shared}", f"the platform {gone}"]
    assert (await told("lab-member", "queues"))[-1] == "the platform changed spec.weight 1 → 3"
    job = await world.request("search-member", "GET", "/api/v1/events?kind=jobs")
    assert job.json()["items"] == []


async def test_a_key_makes_no_key_that_can_do_more_or_lives_longer(world: World) -> None:
    ends_ms = world.clock.now_ms() + 60_000
    await world.make_key(
        "brief", "tenant-admin", tenant="acme", models=["only-this", "that"], expiresMs=ends_ms
    )

    async def refused(by: str, **body: Any) -> str:
        answer = await world.request(by, "POST", "/api/v1/keys", json={"name": "k", "tenant": "acme", **body})
        assert answer.status_code == 403, answer.text
        return str(answer.json()["error"]["param"])

    admin: dict[str, Any] = {"role": "tenant-admin", "models": ["that"]}
    assert await refused("brief", role="tenant-admin", expiresMs=ends_ms) == "models"
    assert await refused("brief", **{**admin, "models": ["that", "other"]}, expiresMs=ends_ms) == "models"
    assert await refused("brief", **admin) == "expiresMs"
    assert await refused("brief", **admin, expiresMs=ends_ms + 1) == "expiresMs"
    await world.make_key("briefer", by="brief", tenant="acme", **admin, expiresMs=ends_ms - 1)
    assert await refused("briefer", **admin, expiresMs=ends_ms) == "expiresMs"
    assert await refused("briefer", **{**admin, "models": ["only-this"]}, expiresMs=ends_ms - 1) == "models"
    await world.make_key("free", "member", by="acme-admin", project="search")


async def test_keys_outlive_their_maker_unless_they_are_revoked_with_it(world: World) -> None:
    await world.make_key("maker", "tenant-admin", tenant="acme")
    await world.make_key("made", "tenant-admin", by="maker", tenant="acme")
    await world.make_key("of-made", "member", by="made", project="search")
    await world.make_key("other", "member", by="acme-admin", project="search")
    await world.request("acme-admin", "DELETE", "/api/v1/keys/maker")
    assert (await world.request("made", "GET", "/api/v1/whoami")).status_code == 200, (
        "as when a key is renewed"
    )
    gone = await world.request("acme-admin", "DELETE", "/api/v1/keys/maker?made=true")
    assert gone.json()["metadata"]["name"] == "maker"
    for name, status in (("made", 401), ("of-made", 401), ("other", 200), ("acme-admin", 200)):
        assert (await world.request(name, "GET", "/api/v1/whoami")).status_code == status, name


async def test_no_key_gets_out_of_the_line_of_its_makers_by_using_a_name_anew(world: World) -> None:
    admin: dict[str, Any] = {"role": "tenant-admin", "tenant": "acme"}
    await world.make_key("stolen", by="acme-admin", **admin)
    await world.make_key("between", by="stolen", **admin)
    await world.make_key("youngest", by="between", **admin)
    await world.request("youngest", "DELETE", "/api/v1/keys/between")
    await world.make_key("between", by="youngest", **admin)
    await world.request("acme-admin", "DELETE", "/api/v1/keys/stolen?made=true")
    for name in ("stolen", "between", "youngest"):
        assert (await world.request(name, "GET", "/api/v1/whoami")).status_code == 401, name
    assert (await world.request("acme-admin", "GET", "/api/v1/whoami")).status_code == 200


async def test_a_project_and_a_tenant_have_only_so_many_keys_and_few_that_ended(world: World) -> None:
    await world.apply(document("Tenant", "acme", limits={"maxKeys": 3}))
    for scope in ({"role": "member", "project": "search"}, {"role": "tenant-admin"}):
        made: list[str] = []
        for number in range(4):
            name = f"{scope['role']}-{number}"
            answer = await world.request("acme-admin", "POST", "/api/v1/keys", json={"name": name, **scope})
            if answer.status_code == 403:
                assert answer.json()["error"]["code"] == "limit_reached"
                break
            made.append(name)
        assert 0 < len(made) < 4
        for number in range(10):
            await world.request("acme-admin", "DELETE", f"/api/v1/keys/{made[-1]}")
            made.append(f"{scope['role']}-x{number}")
            await world.make_key(made[-1], by="acme-admin", **scope)
        left = await world.context.store.list(ApiKey)
        assert sum(key.spec.tenant == "acme" for key in left) <= 12

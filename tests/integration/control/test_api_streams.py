"""Repeated writes, watching, events, usage, the gateway's routes, and what the process tells of itself."""

import asyncio
import json
from typing import Any

import pytest

from common.loop import LoopHealth
from common.resources import Workload
from common.store.port import Event
from control.loops import Loops
from tests.integration.control.conftest import METRICS_TOKEN, TOKEN, World, document

pytestmark = pytest.mark.integration
INTERNAL = {"Authorization": f"Bearer {TOKEN}"}


def usage_event(id_: str, **changes: Any) -> dict[str, Any]:
    event = {
        "id": id_,
        "kind": "inference",
        "tenant": "acme",
        "project": "search",
        "key": "search-agent",
        "model": "tiny",
        "started_ms": 1_700_000_000_000,
        "ended_ms": 1_700_000_001_000,
        "quantities": {"prompt_tokens": 10, "completion_tokens": 5},
    }
    return {**event, **changes}


async def post_usage(world: World, *events: Any) -> dict[str, Any]:
    answer = await world.request(
        None, "POST", "/internal/v1/usage-events", headers=INTERNAL, json={"events": list(events)}
    )
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def test_a_repeated_write_is_done_once_and_answered_twice(world: World) -> None:
    async with world.client("search-member") as member:
        headers = {"Idempotency-Key": "k1"}
        first = await member.post("/api/v1/apply", json=document("Model", "m", "search"), headers=headers)
        await member.delete("/api/v1/models/m")
        again = await member.post("/api/v1/apply", json=document("Model", "m", "search"), headers=headers)
        other = await member.post("/api/v1/apply", json=document("Model", "n", "search"), headers=headers)
        elsewhere = await member.delete("/api/v1/models/m", headers=headers)
        assert again.json() == first.json()
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (await member.get("/api/v1/models/m")).status_code == 404
    assert (other.status_code, elsewhere.status_code) == (422, 422)
    assert other.json()["error"]["code"] == "idempotency_mismatch"


async def test_two_writes_with_one_key_at_once_are_one_write(world: World) -> None:
    body = {"name": "once", "role": "member", "project": "search"}
    async with world.client("admin") as admin:
        answers = await asyncio.gather(
            *(admin.post("/api/v1/keys", json=body, headers={"Idempotency-Key": "k"}) for _ in range(3))
        )
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    # The secret is not kept, so only the first answer shows it.
    assert sum(answer.json()["secret"] is not None for answer in answers) == 1


async def test_a_refused_write_may_be_corrected_and_sent_again(world: World) -> None:
    async with world.client("admin") as admin:
        headers, made = {"Idempotency-Key": "k"}, document("Endpoint", "e", "search")
        assert (await admin.post("/api/v1/apply", json=made, headers=headers)).status_code == 400
        await world.apply(document("Model", "tiny", "search"))
        assert (await admin.post("/api/v1/apply", json=made, headers=headers)).status_code == 200


async def watched(world: World, key: str, query: str) -> list[dict[str, Any]]:
    answer = await world.request(key, "GET", f"/api/v1/watch?timeout_seconds=0.05&{query}")
    assert answer.status_code == 200, answer.text
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0]["type"] == "heartbeat"
    return [line for line in lines if line["type"] != "heartbeat"]


async def test_a_watcher_sees_changes_of_its_own_from_where_it_left_off(world: World) -> None:
    since = await world.context.store.revision()
    await world.apply(document("Model", "mine", "search"), document("Model", "theirs", "lab"))
    await world.request("search-member", "DELETE", "/api/v1/models/mine")
    seen = await watched(world, "search-member", f"since={since}&kinds=Model")
    assert [(c["type"], c["resource"]["metadata"]["name"]) for c in seen] == [
        ("put", "mine"),
        ("delete", "mine"),
    ]
    assert await watched(world, "search-member", f"since={seen[-1]['revision']}") == []
    everything = await watched(world, "admin", f"since={since}&kinds=models")
    assert {c["resource"]["metadata"]["name"] for c in everything} == {"mine", "theirs"}
    unknown = await world.request("admin", "GET", "/api/v1/watch?kinds=Spaceship")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "kinds")


async def test_a_watch_wakes_for_a_change_and_ends_with_its_key(world: World) -> None:
    revision = await world.context.store.revision()
    path = f"/api/v1/watch?since={revision}&timeout_seconds=30&kinds=Model"
    watching = asyncio.create_task(world.request("search-member", "GET", path))
    await asyncio.sleep(0.1)
    await world.apply(document("Model", "m", "search"))
    await asyncio.sleep(0.05)
    await world.request("admin", "DELETE", "/api/v1/keys/search-member")
    answer = await asyncio.wait_for(watching, 5)
    assert '"name": "m"' in answer.text


async def test_events_are_paged_and_hidden_from_others(world: World) -> None:
    for number, project in enumerate(("search", "lab", "search", "search")):
        await world.context.store.record(
            Event(f"evt-{number}", number, "info", "Did", "it", "Workload", "w", project, {"n": number})
        )

    async def ids(key: str, query: str = "") -> list[str]:
        answer = await world.request(key, "GET", f"/api/v1/events?kind=workloads{query}")
        return [item["id"] for item in answer.json()["items"]]

    assert await ids("search-member") == ["evt-0", "evt-2", "evt-3"]
    assert await ids("acme-admin", "&limit=2") == ["evt-0", "evt-2"]
    assert await ids("acme-admin", "&after=evt-2") == ["evt-3"]
    assert await ids("admin") == ["evt-0", "evt-1", "evt-2", "evt-3"]


async def test_usage_is_posted_once_and_a_wrong_event_holds_up_no_other(world: World) -> None:
    wrong = usage_event("use-2", quantities={"prompt_tokens": -1})
    first = await post_usage(world, usage_event("use-1"), wrong, "nonsense", usage_event("use-3"))
    assert (first["accepted"], first["duplicates"]) == (2, 0)
    assert [(one["index"], one["id"]) for one in first["rejected"]] == [(1, "use-2"), (2, "")]
    assert "quantities.prompt_tokens" in first["rejected"][0]["message"]
    again = await post_usage(world, usage_event("use-1"), usage_event("use-3", ended_ms=1_700_000_009_000))
    assert (again["accepted"], again["duplicates"]) == (0, 1)
    assert [one["id"] for one in again["rejected"]] == ["use-3"]
    total = (await world.request("admin", "GET", "/api/v1/usage")).json()["total"]
    assert (total["requests"], total["prompt_tokens"], total["completion_tokens"]) == (2, 20, 10)


async def test_usage_of_what_was_deleted_meanwhile_is_still_billed(world: World) -> None:
    """A gateway may hand over usage long after the project, its key and its tenant have gone."""
    await world.apply(document("Tenant", "brief"), document("Project", "passing", tenant="brief"))
    await world.make_key("guest", "member", project="passing")
    for path in ("keys/guest", "projects/passing", "tenants/brief"):
        assert (await world.request("admin", "DELETE", f"/api/v1/{path}")).status_code == 200
    late = usage_event("use-1", tenant="brief", project="passing", key="guest")
    assert (await post_usage(world, late))["accepted"] == 1
    report = (await world.request("admin", "GET", "/api/v1/usage?group_by=tenant,project,key")).json()
    [row] = report["rows"]
    assert (row["tenant"], row["project"], row["key"]) == ("brief", "passing", "guest")
    assert row["prompt_tokens"] == 10


async def test_each_role_sees_its_own_usage(world: World) -> None:
    await post_usage(world, usage_event("use-1"), usage_event("use-2", tenant="globex", project="lab"))

    async def projects(key: str, query: str = "") -> set[str]:
        answer = await world.request(key, "GET", f"/api/v1/usage?group_by=project{query}")
        assert answer.status_code == 200, answer.text
        return {row["project"] for row in answer.json()["rows"]}

    assert await projects("admin") == {"search", "lab"}
    assert await projects("acme-admin") == await projects("search-member") == {"search"}
    assert await projects("admin", "&from=2023-11-15") == set()
    assert await projects("admin", "&to=2023-11-15T00:00:00Z&key=search-agent") == {"search", "lab"}
    for query, param in (("group_by=colour", "group_by"), ("from=yesterday", "from")):
        wrong = await world.request("admin", "GET", f"/api/v1/usage?{query}")
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, param)


async def test_routes_are_given_again_only_when_they_change(world: World) -> None:
    first = await world.request(None, "GET", "/internal/v1/routes", headers=INTERNAL)
    table = first.json()
    assert {key["name"] for key in table["keys"]} >= {"admin", "search-agent"}
    path = f"/internal/v1/routes?since={table['version']}"
    assert (await world.request(None, "GET", path, headers=INTERNAL)).status_code == 304
    waiting = asyncio.create_task(world.request(None, "GET", f"{path}&wait_seconds=10", headers=INTERNAL))
    await asyncio.sleep(0.05)
    await world.request("admin", "DELETE", "/api/v1/keys/search-agent")
    changed = await asyncio.wait_for(waiting, 5)
    assert "search-agent" not in {key["name"] for key in changed.json()["keys"]}


async def test_a_process_that_ends_answers_whoever_waits(world: World) -> None:
    known = (await world.request(None, "GET", "/internal/v1/routes", headers=INTERNAL)).json()["version"]
    query = {"since": known, "wait_seconds": 60}
    routes = world.request(None, "GET", "/internal/v1/routes", headers=INTERNAL, params=query)
    waiting = [asyncio.create_task(one) for one in (routes, world.request("admin", "GET", "/api/v1/watch"))]
    _, still = await asyncio.wait(waiting, timeout=0.3)
    assert len(still) == 2
    world.context.ending.set()
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert [answer.status_code for answer in answers] == [304, 200]


async def test_a_body_over_the_limit_is_refused(world: World) -> None:
    big = b" " * (5 * 1024 * 1024)

    async def pieces() -> Any:
        for start in range(0, len(big), 1024 * 1024):
            yield big[start : start + 1024 * 1024]

    async with world.client("admin") as admin:
        for content in (big, pieces()):
            answer = await admin.post("/api/v1/apply", content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "request_too_large"


async def test_a_workload_explains_itself_and_has_no_log_before_it_starts(world: World) -> None:
    await world.apply(document("Workload", "w", "search"))
    told = await world.request("search-member", "GET", "/api/v1/workloads/w/explain")
    assert told.json()["phase"] == "Pending"
    log = await world.request("search-member", "GET", "/api/v1/workloads/w/logs")
    assert log.status_code == 503
    assert (await world.context.store.get(Workload, "w", "search")).status.attempt == 0


async def test_the_process_tells_how_it_is(world: World) -> None:
    async def broken(stop: asyncio.Event, health: LoopHealth) -> None:
        raise RuntimeError("no good, says acme")

    async def good(stop: asyncio.Event, health: LoopHealth) -> None:
        await stop.wait()

    assert (await world.request(None, "GET", "/readyz")).status_code == 200

    async def fails(stop: asyncio.Event, health: LoopHealth) -> None:
        for _ in range(3):
            health.note(ValueError("of tenant acme"))
        await stop.wait()

    loops = world.context.loops = Loops(first_backoff_seconds=60)
    loops.add("good", good)
    loops.add("fails", fails)
    loops.add("broken", broken)
    loops.start()
    while not loops.states["broken"].error:
        await asyncio.sleep(0.01)
    body = (await world.request(None, "GET", "/readyz")).json()
    states = {state["name"]: state for state in body["loops"]}
    assert not body["ready"]
    assert states["good"]["alive"]
    assert not states["broken"]["alive"]
    assert states["good"]["trouble"] == ""
    assert states["fails"]["alive"]
    assert states["fails"]["trouble"].startswith("the last 3 passes failed: ValueError")
    assert "RuntimeError in " in states["broken"]["error"]
    assert "acme" not in json.dumps(body)
    await loops.stop(1)
    assert (await world.request(None, "GET", "/healthz")).text == "ok\n"
    for key, headers in (("admin", {}), (None, {"Authorization": f"Bearer {METRICS_TOKEN}"})):
        metrics = (await world.request(key, "GET", "/metrics", headers=headers)).text
        assert "computility_control_requests_total" in metrics
    version = (await world.request(None, "GET", "/api/v1/version")).json()
    assert version["api"] == "computility.io/v1alpha1"


async def test_the_openapi_document_is_complete(world: World) -> None:
    content = (await world.request(None, "GET", "/openapi.json")).json()
    assert content["openapi"].startswith("3.")
    schemas = content["components"]["schemas"]
    assert {"Workload", "WorkloadSpec", "Endpoint", "Price", "ErrorBody", "KeyRequest"} <= set(schemas)
    for path in ("/api/v1/models/{name}", "/api/v1/keys", "/api/v1/watch", "/internal/v1/usage-events"):
        assert path in content["paths"]
    assert "put" not in content["paths"]["/api/v1/apikeys/{name}"]
    operations = [op["operationId"] for path in content["paths"].values() for op in path.values()]
    assert len(set(operations)) == len(operations)
    text = json.dumps(content)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in schemas

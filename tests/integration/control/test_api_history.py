"""Names pass from one owner to the next, and requests are sent again: nobody is shown what was another's, and
nothing is done twice."""

import json
from typing import Any

import pytest

from common.store.port import Event
from control.api.idempotency import Idempotency
from tests.integration.control.conftest import World, document
from tests.integration.control.test_api_streams import post_usage, usage_event, watched

pytestmark = pytest.mark.integration

KEYED = {"Idempotency-Key": "k1"}
UPLOAD = {"file": ("rows.jsonl", b'{"messages": []}\n')}
PURPOSE = {"purpose": "fine-tune"}


async def fail(*_: Any) -> None:
    """In place of what comes after a write."""
    raise OSError("gone")


async def give_away(world: World) -> None:
    """Acme's project ``research``, with secrets, passes to globex."""
    await world.apply(
        document("Project", "research", tenant="acme", displayName="M&A of Foo Inc"),
        document("Model", "m", "research", source="acme/merger-model"),
    )
    await world.make_key("visitor", "member", project="research")
    async with world.client("visitor") as member:
        upload = {"file": ("salaries-of-acme.jsonl", b'{"messages": []}\n')}
        file = (await member.post("/v1/files", data=PURPOSE, files=upload, headers=KEYED)).json()
        assert (await member.delete(f"/v1/files/{file['id']}")).status_code == 200
    store = world.context.store
    await store.record(Event("e1", 1, "info", "Made", "acme's own", "Workload", "w", "research"))
    await post_usage(world, usage_event("u1", project="research", ended_ms=world.clock.now_ms()))
    for path in ("models/m?project=research", "keys/visitor", "projects/research"):
        assert (await world.request("admin", "DELETE", f"/api/v1/{path}")).status_code == 200
    world.clock.advance(60)
    made = await world.apply(document("Project", "research", tenant="globex"), key="globex-admin")
    assert made.status_code == 200, made.text
    await world.make_key("visitor", "member", project="research", by="globex-admin")


@pytest.mark.parametrize("key", ["visitor", "globex-admin"])
async def test_the_next_owner_of_a_project_s_name_sees_nothing_of_the_former(world: World, key: str) -> None:
    await give_away(world)
    told = json.dumps(await watched(world, key, "since=0"))
    assert "globex" in told
    for path in (
        "/api/v1/events?limit=1000",
        "/api/v1/events?project=research&kind=Workload&name=w",
        "/api/v1/usage?group_by=project,model,key&project=research",
        "/api/v1/models",
        "/api/v1/projects",
    ):
        answer = await world.request(key, "GET", path)
        assert answer.status_code == 200, answer.text
        told += answer.text
    files = await world.request(key, "GET", "/v1/files", headers={"OpenAI-Project": "research"})
    told += files.text
    for secret in ("acme", "M&A", "salaries", "merger"):
        assert secret not in told, secret


async def test_usage_of_a_tenant_s_former_namesake_is_not_shown(world: World) -> None:
    await post_usage(world, usage_event("u1", ended_ms=world.clock.now_ms()))
    await world.apply(document("Tenant", "passing"), document("Project", "hall", tenant="passing"))
    used = usage_event("u2", tenant="passing", project="hall", ended_ms=world.clock.now_ms())
    await post_usage(world, used)
    for path in ("projects/hall", "tenants/passing"):
        assert (await world.request("admin", "DELETE", f"/api/v1/{path}")).status_code == 200
    world.clock.advance(1)
    await world.apply(document("Tenant", "passing"), document("Project", "hall", tenant="passing"))
    await world.make_key("next", "tenant-admin", tenant="passing")
    assert (await world.request("next", "GET", "/api/v1/usage")).json()["total"]["requests"] == 0
    assert (await world.request("admin", "GET", "/api/v1/usage")).json()["total"]["requests"] == 2


async def test_a_key_s_name_that_passes_to_another_takes_no_answers_with_it(world: World) -> None:
    await give_away(world)
    async with world.client("visitor") as member:
        answer = await member.post("/v1/files", data=PURPOSE, files=UPLOAD, headers=KEYED)
        assert answer.status_code == 200
        assert "Idempotent-Replayed" not in answer.headers
        assert answer.json()["filename"] == "rows.jsonl"


async def test_an_idempotency_key_counts_for_one_project(world: World) -> None:
    await world.apply(document("Project", "two", tenant="acme"))
    ids = []
    for project in ("search", "two", "search"):
        answer = await world.request(
            "acme-admin",
            "POST",
            "/v1/files",
            data=PURPOSE,
            files=UPLOAD,
            headers={**KEYED, "OpenAI-Project": project},
        )
        assert answer.status_code == 200, answer.text
        ids.append(answer.json()["id"])
    assert ids[0] == ids[2] != ids[1]
    for project, file in (("search", ids[0]), ("two", ids[1])):
        listed = await world.request("acme-admin", "GET", "/v1/files", headers={"OpenAI-Project": project})
        assert [one["id"] for one in listed.json()["data"]] == [file]


async def test_a_repeated_write_is_answered_also_when_the_first_answer_was_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is lost once the write is done: what was done is known all the same."""
    await world.store_directly("FineTune", "ftjob-1", "search")
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/v1/apply", {"json": [document("Model", f"m{n}", "search") for n in range(2)]}),
        ("PUT", "/api/v1/models/tiny", {"json": document("Model", "tiny", "search")}),
        ("DELETE", "/api/v1/models/m1", {}),
        ("POST", "/v1/files", {"data": PURPOSE, "files": UPLOAD}),
        ("POST", "/v1/fine_tuning/jobs/ftjob-1/cancel", {}),
    ]
    for number, (method, path, options) in enumerate(requests):
        headers = {"Idempotency-Key": f"k{number}"}
        with monkeypatch.context() as dying:
            dying.setattr(Idempotency, "_keep", fail)
            lost = await world.request("search-member", method, path, headers=headers, **options)
        assert lost.status_code == 500
        told = await world.request("search-member", method, path, headers=headers, **options)
        assert (told.status_code, told.headers.get("Idempotent-Replayed")) == (200, "true"), told.text
    listed = await world.request("search-member", "GET", "/v1/files")
    assert len(listed.json()["data"]) == 1


@pytest.mark.parametrize("named", ["x" * 5000, "a%00b", "%ED%A0%80"])
async def test_an_odd_project_beside_an_idempotency_key_breaks_nothing(world: World, named: str) -> None:
    headers = {**KEYED, "OpenAI-Project": named}
    model = document("Model", "m", "search")
    for _ in range(2):
        answer = await world.request("search-member", "POST", "/api/v1/apply", json=model, headers=headers)
        assert answer.status_code == 200, answer.text
    path = f"/api/v1/apply?project={named}"
    other = {"Idempotency-Key": "k2"}
    answer = await world.request("search-member", "POST", path, json=model, headers=other)
    assert answer.status_code == 200, answer.text


async def test_a_key_is_made_once_also_when_its_answer_was_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"name": "once", "role": "member", "project": "search"}
    with monkeypatch.context() as dying:
        dying.setattr(Idempotency, "_keep", fail)
        first = await world.request("acme-admin", "POST", "/api/v1/keys", json=body, headers=KEYED)
    assert first.status_code == 500
    again = await world.request("acme-admin", "POST", "/api/v1/keys", json=body, headers=KEYED)
    assert (again.status_code, again.json()["secret"]) == (201, None)
    for _ in range(2):
        gone = await world.request(
            "acme-admin", "DELETE", "/api/v1/keys/once", headers={"Idempotency-Key": "k2"}
        )
        assert gone.json()["spec"]["revoked"] is True

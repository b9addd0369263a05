"""What strangers and single keys can make control do is bounded."""

import asyncio
import json
from typing import Any

import pytest

from common.errors import DATABASE_UNAVAILABLE, Unavailable
from control.audit import REFUSALS_PER_MINUTE
from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration


async def audit_of(world: World) -> list[dict[str, Any]]:
    answer = await world.request("admin", "GET", "/api/v1/audit?limit=1000")
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_the_audit_log_cannot_be_filled_by_strangers_or_by_refusals(world: World) -> None:
    await world.apply(document("Model", "m", "search"), key="acme-admin")
    before = len(await audit_of(world))
    async with world.client() as stranger, world.client("lab-member") as member:
        for _ in range(200):
            assert (await stranger.get("/v1/files")).status_code == 401
            assert (await stranger.post("/healthz")).status_code in (404, 405)
            assert (await member.get("/api/v1/projects/search")).status_code == 404
    entries = await audit_of(world)
    assert len(entries) - before <= REFUSALS_PER_MINUTE + 4
    counted = {e["principal"]: e["target"] for e in entries if e["action"] == "COUNTED"}
    assert counted["anonymous"] == "400 refused requests"
    assert counted["lab-member"] == f"{200 - REFUSALS_PER_MINUTE} refused requests"
    assert ("acme-admin", "ok") in {(e["principal"], e["outcome"]) for e in entries}
    metrics = (await world.request("admin", "GET", "/metrics")).text
    assert 'computility_control_refused_total{caller="anonymous",code="invalid_api_key"}' in metrics


async def test_a_key_watches_so_often_at_once_and_other_keys_go_on(world: World) -> None:
    most = world.context.settings.control.max_watches_per_key
    path = "/api/v1/watch?timeout_seconds=20"
    watching = [asyncio.create_task(world.request("search-member", "GET", path)) for _ in range(most)]
    async with asyncio.timeout(20):
        while world.context.feed.open_watches < most:
            await asyncio.sleep(0.01)
    refused = await world.request("search-member", "GET", path)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["code"] == "too_many_watches"
    other = await world.request("lab-member", "GET", "/api/v1/watch?timeout_seconds=0.05")
    assert other.status_code == 200
    await world.request("admin", "DELETE", "/api/v1/keys/search-member")
    for answer in await asyncio.wait_for(asyncio.gather(*watching), 5):
        assert answer.status_code == 200
    await world.make_key("search-member", "member", project="search")
    again = await world.request("search-member", "GET", "/api/v1/watch?timeout_seconds=0.05")
    assert again.status_code == 200


async def test_a_watch_ends_with_its_key_also_while_it_reads_what_is_old(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = world.context.feed
    after, reads = feed.after, 0

    async def meanwhile(*asked: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 1:
            await world.request("admin", "DELETE", "/api/v1/keys/search-member")
        return await after(*asked)

    monkeypatch.setattr(feed, "after", meanwhile)
    path = "/api/v1/watch?timeout_seconds=20&since=0"
    answer = await asyncio.wait_for(world.request("search-member", "GET", path), 5)
    assert [json.loads(line)["type"] for line in answer.text.splitlines()] == ["heartbeat"]


async def test_a_stranger_learns_nothing_about_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> int:
        reason = "postgresql+asyncpg://ops:secret@db.internal:5433/ledger cannot be used"
        raise Unavailable(reason, DATABASE_UNAVAILABLE)

    monkeypatch.setattr(world.context.store, "revision", away)
    answer = await world.request(None, "GET", "/readyz")
    assert answer.status_code == 503
    for told in ("ops:", "secret", "db.internal", "5433", "ledger", "postgresql"):
        assert told not in answer.text

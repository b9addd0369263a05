"""Control processes that share a database, without gangs: what one that follows answers; who is refused."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.settings import Settings, child_environment
from tests.fixtures.control_process import ROOT, ControlProcess
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.integration
LEASE_SECONDS = 2.0


@pytest.fixture
async def pair(tmp_path: Path, postgres_url: str) -> AsyncIterator[list[ControlProcess]]:
    """The first leads; the second follows."""
    made = [ControlProcess(tmp_path / "home", lease_seconds=LEASE_SECONDS) for _ in range(2)]
    for one in made:
        one.settings.store.url = postgres_url
    try:
        await made[0].start()
        await eventually(lambda: _leads(made[0]))
        await made[0].populate()
        await made[1].start()
        made[1].key, made[1].member = made[0].key, made[0].member
        await eventually(lambda: _follows(made[1], made[0].settings.control_url))
        yield made
    finally:
        for one in made:
            one.kill()


async def _leads(one: ControlProcess) -> bool:
    async with one.client("none") as client:
        found = (await client.get("/readyz")).json()
    return bool(found["role"] == "leader" and found["ready"])


async def _follows(one: ControlProcess, url: str) -> bool:
    async with one.client("none") as client:
        found = (await client.get("/readyz")).json()
    return bool(found["role"] == "follower" and found["leader"] == url and found["ready"])


@pytest.mark.postgres
async def test_one_that_follows_answers_as_the_one_that_leads(pair: list[ControlProcess]) -> None:
    leader, follower = pair
    tenant = {"apiVersion": "computility.io/v1alpha1", "kind": "Tenant", "metadata": {"name": "other"}}
    async with leader.client(leader.key) as first, follower.client(follower.key) as second:
        made = await second.post("/api/v1/apply", json=tenant, headers={"Idempotency-Key": "once"})
        assert made.status_code == 200, made.text
        again = await first.post("/api/v1/apply", json=tenant, headers={"Idempotency-Key": "once"})
        assert again.text == made.text, "the answer was kept where the write was made"
        for path in ("/api/v1/tenants/other", "/api/v1/tenants", "/api/v1/keys", "/api/v1/whoami"):
            ours, theirs = await second.get(path), await first.get(path)
            assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json()), path
        assert (await second.get("/api/v1/overview")).json()["queues"][0]["name"] == "default"
        refused = await second.delete("/api/v1/tenants/nobody")
        assert refused.status_code == 404
        assert refused.headers["x-request-id"]
        page = {"origin": "https://page.example"}
        assert (await second.get("/api/v1/tenants", headers=page)).status_code == 200
        metrics = (await second.get("/metrics")).text
    assert "computility_control_leads 0.0" in metrics
    assert 'computility_control_passed_on_total{outcome="answered"}' in metrics
    async with follower.client("ck-wrong") as stranger:
        assert (await stranger.get("/api/v1/tenants")).status_code == 401
        assert (await stranger.post("/api/v1/apply", json=tenant)).status_code == 401


@pytest.mark.postgres
async def test_while_nobody_leads_reads_are_answered_and_writes_are_told_when_to_come_again(
    pair: list[ControlProcess],
) -> None:
    leader, follower = pair
    leader.kill()
    async with follower.client(follower.key) as client:
        refused = await client.delete("/api/v1/tenants/nobody")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "no_leader"
        assert "Idempotency-Key" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/api/v1/tenants")).status_code == 200
        await eventually(lambda: _leads(follower))
        assert (await client.delete("/api/v1/tenants/nobody")).status_code == 404
        metrics = (await client.get("/metrics")).text
    assert 'computility_control_takeovers_total{reason="expired"} 1.0' in metrics
    assert "computility_control_leads 1.0" in metrics


async def test_a_second_one_on_an_sqlite_file_is_refused(tmp_path: Path) -> None:
    first = ControlProcess(tmp_path)
    try:
        await first.start()
        env = child_environment(first.settings, COMPUTILITY_CONTROL__PORT=str(free_port()))
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "tests.fixtures.control_process"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 7, done.stderr
        assert f"(pid {first.pid})" in done.stderr
        assert "COMPUTILITY_STORE__URL=postgresql+asyncpg://" in done.stderr
        first.kill()
        await first.start()
        await eventually(lambda: _leads(first), 5)
    finally:
        first.kill()


@pytest.mark.parametrize("url", ["control:8001", "http://control:8001/api", "ftp://control", ""])
def test_an_address_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scheme://host:port"):
        Settings(home=tmp_path, control={"urls": [url]})


async def test_a_follower_passes_nothing_on_twice(tmp_path: Path) -> None:
    """One whose leader does not lead any more answers that, and does not ask round in a circle."""
    one = ControlProcess(tmp_path)
    try:
        await one.start()
        async with httpx.AsyncClient(base_url=one.settings.control_url) as client:
            marked = {"x-computility-passed-on": "1"}
            answer = await client.post("/internal/v1/bootstrap", headers=marked)
        assert answer.status_code == 401, "who leads answers by itself, whatever a caller says"
    finally:
        one.kill()

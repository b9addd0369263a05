"""kill -9 of the gateway and of control while a batch runs: each line is in its results once, and billed
once, as it was answered. ``COMPUTILITY_TEST_BATCH_LINES`` is how many lines it has,
``COMPUTILITY_TEST_BATCH_KILLS`` how often each of both is killed."""

import asyncio
import json
import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import AsyncOpenAI

from tests.fixtures.budget_site import BudgetSite, budget_site
from tests.fixtures.gateway import gateway_process

LINES = int(os.environ.get("COMPUTILITY_TEST_BATCH_LINES", "10000"))
KILLS = int(os.environ.get("COMPUTILITY_TEST_BATCH_KILLS", "2"))
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def client_of(site: BudgetSite) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=site.control.settings.gateway_url, api_key=site.keys["member"], max_retries=8)


def line(number: int) -> str:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "word " * (1 + number % 7)}],
        "max_tokens": 1 + number % 5,
    }
    told = {"custom_id": f"n{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(told)


async def kill_gateway(site: BudgetSite) -> None:
    for process in (*site.workers, psutil.Process(site.gateway.pid)):
        process.kill()
    site.gateway.communicate()
    site.gateway = gateway_process(site.control.settings, site.control.settings.internal_token)
    await site.until_serving()


async def kill_control(site: BudgetSite) -> None:
    site.control.kill()
    await site.control.start()


async def done_of(client: AsyncOpenAI, id_: str) -> tuple[str, int]:
    batch = await client.batches.retrieve(id_)
    assert batch.request_counts is not None
    return batch.status, batch.request_counts.completed + batch.request_counts.failed


async def lines_of(client: AsyncOpenAI, file: str | None) -> list[dict[str, Any]]:
    assert file is not None
    content = await client.files.content(file)
    return [json.loads(one) for one in content.text.splitlines()]


def billed(home: Path) -> list[dict[str, Any]]:
    """All usage events of the ledger, as they say themselves."""
    with sqlite3.connect(home / "state.db") as database:
        rows = database.execute(
            "SELECT id, prompt_tokens, completion_tokens, document FROM usage_events"
        ).fetchall()
    names = ("id", "prompt", "completion", "tier")
    return [dict(zip(names, (*row[:3], json.loads(row[3])["service_tier"]), strict=True)) for row in rows]


async def test_each_line_once_through_deaths_of_gateway_and_control(tmp_path: Path) -> None:
    async with budget_site(tmp_path) as site, client_of(site) as client:
        content = "\n".join(line(number) for number in range(LINES)).encode()
        file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        killed: Counter[str] = Counter()
        while True:
            status, done = await done_of(client, batch.id)
            if status not in ("validating", "in_progress"):
                break
            if done > LINES * (sum(killed.values()) + 1) // (2 * KILLS + 2):
                name, kill = [("gateway", kill_gateway), ("control", kill_control)][sum(killed.values()) % 2]
                if killed[name] < KILLS:
                    await kill(site)
                    killed[name] += 1
            await asyncio.sleep(0.2)
        async with asyncio.timeout(120):
            while (await done_of(client, batch.id))[0] != "completed":
                await asyncio.sleep(0.2)
        ended = await client.batches.retrieve(batch.id)
        assert killed == {"gateway": KILLS, "control": KILLS}, killed
        assert ended.request_counts is not None
        assert (ended.request_counts.completed, ended.request_counts.failed) == (LINES, 0)
        assert ended.error_file_id is None
        answers = await lines_of(client, ended.output_file_id)
        assert [one["custom_id"] for one in answers] == [f"n{number}" for number in range(LINES)]
        told = [one["response"]["body"]["usage"] for one in answers]
        events = billed(tmp_path)
        assert len({event["id"] for event in events}) == len(events) == LINES
        assert {event["tier"] for event in events} == {"batch"}
        for meter, name in (("prompt", "prompt_tokens"), ("completion", "completion_tokens")):
            assert sum(event[meter] for event in events) == sum(usage[name] for usage in told)
        usage = ended.usage
        assert usage is not None
        assert usage.output_tokens == sum(one["completion_tokens"] for one in told)
        print(f"{LINES} lines, asked of the engine {len(site.engine.bodies)} times")
        assert len(site.engine.bodies) <= LINES + 2 * KILLS * 64

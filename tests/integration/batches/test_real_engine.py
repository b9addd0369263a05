"""A batch on a real engine: the tokens billed are the tokens that the engine itself has counted, once."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from batches.controller import BatchController
from common.clock import SYSTEM_CLOCK
from common.ids import secret_digest
from common.resources import ApiKey, Batch, Metadata, Project
from common.resources.batches import BatchSpec, BatchStatus
from common.resources.people import ApiKeySpec, ProjectSpec
from common.store.batch_lines import MemoryBatchLines
from common.store.memory import MemoryStore
from finetune.adapters.blobs import LocalBlobs
from finetune.files.file_service import FileService
from tests.fixtures.batch_world import Ledger
from tests.fixtures.engine import RealEngine
from tests.fixtures.gateway import SECRET, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
PROJECT = "acme-bots"
LINES = 12


def line(number: int, **more: Any) -> bytes:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"Tell me about {number}."}],
        "max_tokens": 4 + number,
        **more,
    }
    told = {"custom_id": f"n{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(told).encode() + b"\n"


async def _content() -> AsyncIterator[bytes]:
    for number in range(LINES):
        yield line(number)
    yield line(LINES, model="none")


async def test_what_a_batch_is_billed_is_what_the_engine_has_counted(
    real_engine: RealEngine, tmp_path: Path
) -> None:
    before = real_engine.counter("prompt_tokens"), real_engine.counter("generation_tokens")
    routes = table([("r0", real_engine.url)], context_tokens=real_engine.context_tokens)
    async with serving(tmp_path, routes) as front:
        store, ledger, lines = MemoryStore(SYSTEM_CLOCK), Ledger(), MemoryBatchLines()
        files = FileService(store, LocalBlobs(tmp_path / "files"), front.settings, SYSTEM_CLOCK)
        await store.apply(Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant="acme")))
        key = ApiKey(metadata=Metadata(name="alice"), spec=ApiKeySpec(role="member", project=PROJECT))
        key = (await store.apply(key)).resource
        key.status.digest = secret_digest(SECRET)
        await store.set_status(key)
        file = await files.create(PROJECT, "lines.jsonl", "batch", _content())
        spec = BatchSpec(
            input_file=file.name,
            endpoint="/v1/chat/completions",
            api_key="alice",
            api_key_uid=key.metadata.uid,
        )
        status = BatchStatus(expires_ms=SYSTEM_CLOCK.now_ms() + 3_600_000)
        batch = Batch(metadata=Metadata(name="batch-1", project=PROJECT), spec=spec, status=status)
        await store.apply(batch)
        controller, stop = (
            BatchController(store, ledger, files, lines, front.settings, SYSTEM_CLOCK),
            asyncio.Event(),
        )
        running = asyncio.create_task(controller.run(stop))
        async with asyncio.timeout(300):
            while not (ended := await store.get(Batch, "batch-1", PROJECT)).has_ended:
                await asyncio.sleep(0.1)
        stop.set()
        await running
        assert front.control.events == {}
    assert ended.status.state == "completed", ended.status
    assert (ended.status.completed, ended.status.failed) == (LINES, 1)
    events = ledger.events.values()
    used = [
        sum(event.quantity(meter) for event in events) for meter in ("prompt_tokens", "completion_tokens")
    ]
    assert (ended.status.prompt_tokens, ended.status.completion_tokens) == tuple(used)
    for _ in range(30):  # the engine publishes its counters a moment after its answers
        counted = real_engine.counter("prompt_tokens"), real_engine.counter("generation_tokens")
        if [now - then for now, then in zip(counted, before, strict=True)] == used:
            return
        await asyncio.sleep(0.1)
    raise AssertionError((used, before, counted))

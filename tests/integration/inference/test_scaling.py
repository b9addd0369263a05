"""Real control and gateway processes, and engines that come and go with their load: no request fails, and the
bill is what clients were told."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from common.settings import ControlSettings, EngineSettings, GatewaySettings, Settings, child_environment
from tests.fixtures.ports import free_port
from tests.fixtures.process_fabric import TOKEN_SECONDS
from tests.fixtures.tiny_model import shared_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "internal-token-of-the-tests"
SLEEPY = {
    "minReplicas": 0,
    "maxReplicas": 3,
    "targets": {"requestsPerReplica": 4},
    "scaleDownAfterSeconds": 8,
    "coolDownSeconds": 2,
    "scaleToZeroAfterSeconds": 10,
}
ONE_PROCESS = {
    "args": ["--distributed-executor-backend", "uni"],
    "env": {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
    "maxContextTokens": 2048,
}
"""Starts faster on a small machine."""


@dataclass
class Site:
    """Control, a gateway, and one Endpoint ``tiny`` of the project ``search``."""

    settings: Settings
    token_seconds: float | None
    key: str = ""
    member: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    usage: Counter[str] = field(default_factory=Counter)
    failures: list[BaseException] = field(default_factory=list)

    def start(self, module: str) -> None:
        extra = {} if self.token_seconds is None else {TOKEN_SECONDS: str(self.token_seconds)}
        environment = {**child_environment(self.settings), **extra}
        log = (self.settings.home / f"{module}.log").open("ab")
        command = [sys.executable, "-m", module]
        self.processes[module] = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )

    def kill(self, module: str) -> None:
        process = self.processes.pop(module)
        process.kill()
        process.wait()

    def control(self, key: str = "") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.AsyncClient(base_url=self.settings.control_url, headers=headers, timeout=60)

    async def apply(self, kind: str, name: str, spec: dict[str, Any], project: str | None = None) -> None:
        metadata = {"name": name} | ({"project": project} if project else {})
        body = {"apiVersion": "computility.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
        async with self.control() as client:
            answer = await client.post("/api/v1/apply", json=body)
        assert answer.status_code == 200, answer.text

    async def status(self) -> dict[str, Any]:
        async with self.control() as client:
            answer = await client.get("/api/v1/endpoints/tiny", params={"project": "search"})
        return dict(answer.json()["status"])

    async def until(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        """The Endpoint's status once it is so."""
        status: dict[str, Any] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(httpx.HTTPError):
                        status = await self.status()
                        if holds(status):
                            return status
                    await asyncio.sleep(0.2)
        raise AssertionError(f"not within {seconds} s: {status}; {self.failures[:3]}")

    async def ask(self, tokens: int = 20, **options: Any) -> None:
        """One request by the official client, which does not try again; what it uses, or its failure, is
        kept."""
        url = f"http://127.0.0.1:{self.settings.gateway.port}/v1"
        try:
            async with AsyncOpenAI(base_url=url, api_key=self.member, max_retries=0, timeout=300) as client:
                answer: Any = await client.chat.completions.create(
                    model="tiny",
                    messages=[{"role": "user", "content": "one two three"}],
                    max_tokens=tokens,
                    stream=True,
                    stream_options={"include_usage": True},
                    **options,
                )
                usage = [chunk.usage async for chunk in answer if chunk.usage is not None][-1]
            self.usage["completion_tokens"] += usage.completion_tokens
            self.usage["requests"] += 1
        except Exception as error:
            self.failures.append(error)
            raise

    @asynccontextmanager
    async def load(self, clients: int) -> AsyncIterator[None]:
        """So many clients ask one after the other, until the block ends; then what is open is finished."""
        ends = asyncio.Event()

        async def client() -> None:
            while not ends.is_set():
                await self.ask()

        asking = [asyncio.create_task(client()) for _ in range(clients)]
        try:
            yield
        finally:
            ends.set()
            await asyncio.gather(*asking)

    async def billed(self) -> dict[str, int]:
        """What the ledger has, once it has as many requests as were answered."""
        async with asyncio.timeout(30), self.control() as client:
            while True:
                answer = await client.get("/api/v1/usage", params={"kind": "inference"})
                if (total := answer.json()["total"])["requests"] >= self.usage["requests"]:
                    return dict(total)
                await asyncio.sleep(0.2)


@asynccontextmanager
async def site(home: Path, token_seconds: float | None = None) -> AsyncIterator[Site]:
    settings = Settings(
        home=home,
        internal_token=TOKEN,
        control=ControlSettings(port=free_port()),
        gateway=GatewaySettings(port=free_port()),
        engine=EngineSettings(drain_timeout_seconds=60),
    )
    made = Site(settings, token_seconds)
    try:
        for module in ("tests.fixtures.process_fabric", "inference.gateway.main"):
            made.start(module)
        await _answers(f"{settings.control_url}/healthz")
        await _answers(f"http://127.0.0.1:{settings.gateway.port}/healthz")
        await _populate(made)
        yield made
    finally:
        async with made.control() as client:
            with suppress(httpx.HTTPError):
                await client.delete("/api/v1/endpoints/tiny", params={"project": "search"})
        await asyncio.sleep(1.5)
        for module in list(made.processes):
            made.kill(module)


async def _answers(url: str) -> None:
    async with asyncio.timeout(90), httpx.AsyncClient() as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.1)


async def _populate(made: Site) -> None:
    async with made.control(TOKEN) as client:
        made.key = (await client.post("/internal/v1/bootstrap")).json()["secret"]
    await made.apply("Tenant", "acme", {})
    await made.apply("Project", "search", {"tenant": "acme"})
    await made.apply("Queue", "default", {})
    await made.apply("Model", "tiny", {"source": str(shared_tiny_model())}, "search")
    async with made.control() as client:
        wanted = {"name": "member", "role": "member", "project": "search"}
        made.member = (await client.post("/api/v1/keys", json=wanted)).json()["secret"]


async def scaled(made: Site, **autoscaling: Any) -> None:
    spec = {"model": "tiny", "autoscaling": {**SLEEPY, **autoscaling}, "engine": ONE_PROCESS}
    await made.apply("Endpoint", "tiny", spec, "search")
    await made.until(lambda status: bool(status.get("scaling")))


def engines(count: int) -> Callable[[dict[str, Any]], bool]:
    """So many are there, all of them at work."""
    return lambda status: len(status["replicas"]) == count == status["readyReplicas"]


async def test_from_none_to_three_to_one_to_none_and_back_under_load(tmp_path: Path) -> None:
    async with site(tmp_path, token_seconds=0.05) as on:
        await scaled(on)
        assert engines(0)(await on.status())
        async with on.load(1):
            await on.until(engines(1))
            async with on.load(11):
                await on.until(engines(3))
            await on.until(engines(1))
        await on.until(engines(0))
        await on.ask()
        assert engines(1)(await on.status())
        assert on.failures == []
        bill = await on.billed()
        assert bill["requests"] == on.usage["requests"] > 20
        assert bill["completion_tokens"] == on.usage["completion_tokens"]
        async with on.control() as client:
            found = (await client.get("/api/v1/events", params={"kind": "Endpoint"})).json()["items"]
        changes = [(one["data"]["from"], one["data"]["to"]) for one in found if "from" in one.get("data", {})]
        assert changes[0] == (0, 1)
        assert [after for before, after in changes if before > after][-1] == 0
        assert max(after for _, after in changes) == 3


async def test_who_waits_is_answered_though_control_is_killed_meanwhile(tmp_path: Path) -> None:
    async with site(tmp_path, token_seconds=0.01) as on:
        await scaled(on)
        on.kill("tests.fixtures.process_fabric")
        waiting = [asyncio.create_task(on.ask()) for _ in range(5)]
        await asyncio.sleep(1)
        on.start("tests.fixtures.process_fabric")
        await asyncio.wait_for(asyncio.gather(*waiting), 90)
        assert (await on.billed())["requests"] == 5


async def test_a_real_engine_wakes_for_those_who_wait_and_goes_when_nobody_asks(tmp_path: Path) -> None:
    async with site(tmp_path) as on:
        await scaled(on, maxReplicas=1)
        began = time.monotonic()
        await asyncio.gather(*(on.ask(extra_body={"ignore_eos": True}) for _ in range(3)))
        print(f"from nothing to the end of the first answers: {time.monotonic() - began:.1f} s")
        assert (on.failures, on.usage["completion_tokens"]) == ([], 60)
        began = time.monotonic()
        async with asyncio.timeout(60):
            for _ in range(5):
                await on.ask(extra_body={"ignore_eos": True})
        print(f"five answers of an engine that is there: {time.monotonic() - began:.1f} s")
        await on.until(engines(0), 90)
        bill = await on.billed()
        assert (bill["requests"], bill["completion_tokens"]) == (8, 160)

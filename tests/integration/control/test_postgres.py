"""The whole control process on PostgreSQL: a real Ray, the example resources, a key, usage and its report."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from common.settings import ControlSettings, RaySettings, Settings, StoreSettings, child_environment
from tests.fixtures.ports import free_port
from tests.fixtures.ray import ForeignRay
from tests.fixtures.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.postgres]

TOKEN = "internal-token-of-the-tests"
EXAMPLES = Path(__file__).parents[3] / "examples"


@dataclass
class Process:
    """A control process and how to reach it."""

    settings: Settings
    child: subprocess.Popen[str]

    def call(self, method: str, path: str, secret: str = TOKEN, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret}"}
        url = f"{self.settings.control_url}{path}"
        answer = httpx.request(method, url, headers=headers, timeout=20, **options)
        assert answer.status_code < 300, answer.text
        return answer

    async def answers(self) -> bool:
        assert self.child.poll() is None, "the process has ended"
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{self.settings.control_url}/healthz")).is_success
        except httpx.TransportError:
            return False


async def _start(settings: Settings) -> Process:
    command = [sys.executable, "-m", "control.main"]
    log = (settings.folder("logs") / "control.log").open("a")
    child = subprocess.Popen(command, env=child_environment(settings), stdout=log, stderr=log, text=True)
    process = Process(settings, child)
    await eventually(process.answers, 60)
    return process


@pytest.fixture
async def control(postgres_url: str, foreign_ray: ForeignRay, tmp_path: Path) -> AsyncIterator[Process]:
    settings = Settings(
        home=tmp_path / "home",
        internal_token=TOKEN,
        control=ControlSettings(port=free_port()),
        store=StoreSettings(url=postgres_url),
        ray=RaySettings(address=foreign_ray.address),
    )
    process = await _start(settings)
    yield process
    process.child.kill()
    process.child.wait()


def _documents() -> list[dict[str, Any]]:
    """The examples, without the endpoint: no engine is to start here."""
    texts = [path.read_text() for path in sorted(EXAMPLES.glob("*.yaml"))]
    documents = [document for text in texts for document in yaml.safe_load_all(text)]
    return [document for document in documents if document and document["kind"] != "Endpoint"]


def _event(number: int, project: str, tenant: str) -> dict[str, Any]:
    """An event of now, when the example's prices are in force."""
    ended_ms = time.time_ns() // 1_000_000
    return {
        "id": f"use-{number}",
        "kind": "inference",
        "tenant": tenant,
        "project": project,
        "started_ms": ended_ms - 1000,
        "ended_ms": ended_ms,
        "quantities": {"prompt_tokens": 1000, "completion_tokens": 100},
    }


async def test_control_on_postgresql_bills_once_and_comes_back_with_everything(control: Process) -> None:
    admin = control.call("POST", "/internal/v1/bootstrap").json()["secret"]
    documents = _documents()
    outcomes = control.call("POST", "/api/v1/apply", admin, json=documents).json()["results"]
    assert {one["outcome"] for one in outcomes} == {"created"}
    [project] = [one for one in documents if one["kind"] == "Project"]
    name, tenant = project["metadata"]["name"], project["spec"]["tenant"]
    wanted = {"name": "ada", "role": "member", "project": name}
    key = control.call("POST", "/api/v1/keys", admin, json=wanted).json()["secret"]
    events = {"events": [_event(number, name, tenant) for number in range(3)]}
    first = control.call("POST", "/internal/v1/usage-events", json=events).json()
    assert (first["accepted"], first["duplicates"], first["rejected"]) == (3, 0, [])

    control.child.kill()
    control.child.wait()
    control.child = (await _start(control.settings)).child
    again = control.call("POST", "/internal/v1/usage-events", json=events).json()
    assert (again["accepted"], again["duplicates"]) == (0, 3)
    total = control.call("GET", "/api/v1/usage?group_by=day,model", key).json()["total"]
    assert (total["requests"], total["prompt_tokens"], total["completion_tokens"]) == (3, 3000, 300)
    assert total["microcredits"] == 3 * (1000 * 150_000 + 100 * 600_000) // 1_000_000
    repeated = control.call("POST", "/api/v1/apply", admin, json=documents).json()["results"]
    assert {one["outcome"] for one in repeated} == {"unchanged"}

    async def node_is_there() -> bool:
        return len(control.call("GET", "/api/v1/nodes", admin).json()["items"]) == 1

    await eventually(node_is_there)
    control.child.send_signal(signal.SIGTERM)
    assert control.child.wait(15) == os.EX_OK

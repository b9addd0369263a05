"""The control process is killed again and again while clients write through its API: each time after it is
back, what it says to be allocated is what runs on the nodes.

It is started as `up` starts it, on a Ray that outlives it. Heavier: `COMPUTILITY_TEST_KILLS=200 make test
PYTEST_ARGS="-k test_after_each_kill"`.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from common.client import Client
from common.clock import SYSTEM_CLOCK
from common.ids import new_id
from common.resources.meta import API_VERSION
from common.settings import Settings
from control.supervisor.child import Child
from control.supervisor.parts import control_child
from scheduler.adapters.ray import launcher
from tests.fixtures.fleet import Watched, launchers
from tests.fixtures.ports import free_port
from tests.fixtures.ray import DEVICES
from tests.fixtures.waiting import eventually

KILLS = int(os.environ.get("COMPUTILITY_TEST_KILLS", "10"))
pytestmark = [pytest.mark.integration, pytest.mark.timeout(120 + 40 * KILLS)]
LOOK_SECONDS = 0.1
CLIENTS = 3
NAMES = 3
"""Of workloads per client: a name is used again when its workload is deleted."""
VARIABLES = {"nvidia": "CUDA", "ascend": "ASCEND_RT", "amd": "HIP"}
Document = dict[str, Any]


class Control:
    """The control process, by the command and environment that the supervisor gives it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        spec = control_child(settings, settings.ray.address, "", folder)
        self.child = Child(spec, SYSTEM_CLOCK)

    async def start(self) -> None:
        """Return when it is ready as the supervisor sees it."""
        self.child.start()
        while self.child.state != "ready":
            code = await asyncio.to_thread(self.child.poll)
            assert code is None, f"control ended with {code}: {self.child.log_tail(40)}"
            await asyncio.sleep(LOOK_SECONDS)

    def kill(self) -> None:
        if self.child.process is not None:
            self.child.process.send_signal(signal.SIGKILL)
            self.child.process.wait()
            self.child.poll()

    async def start_and_kill(self, after_seconds: float) -> None:
        self.child.start()
        await asyncio.sleep(after_seconds)
        self.kill()


class Caller:
    """Writes workloads of its own, by chance, and sends a write that was not answered again, with the same
    Idempotency-Key. ``wanted``: what the API has said that it keeps."""

    def __init__(self, number: int, settings: Settings, key: str, watched: Watched) -> None:
        self.random = random.Random(number)
        self.names = [f"w{number}-{n}" for n in range(NAMES)]
        self.watched = watched
        self.wanted: dict[str, Document] = {}
        self.busy = asyncio.Lock()
        self.did: Counter[str] = Counter()
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.AsyncClient(base_url=settings.control_url, headers=headers, trust_env=False)
        self.task = asyncio.create_task(self._run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.http.aclose()

    async def _run(self) -> None:
        while True:
            async with self.busy:
                await self._act()
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    async def _act(self) -> None:
        name = self.random.choice(self.names)
        action = self.random.choice(["change", "resize", "delete"]) if name in self.wanted else "create"
        if action == "delete":
            answer = await self._write("DELETE", f"/api/v1/workloads/{name}?project=p")
            # 404 where control was killed between the deed and its answer.
            assert answer.status_code in (200, 404), answer.text
            del self.wanted[name]
        else:
            spec = self._new() if action == "create" else self._changed(self.wanted[name], action)
            document = {"metadata": {"name": name, "project": "p"}, "spec": spec}
            content = {"apiVersion": API_VERSION, "kind": "Workload", **document}
            answer = await self._write("PUT", f"/api/v1/workloads/{name}?project=p", content)
            assert answer.status_code == 200, answer.text
            self.wanted[name] = spec
        self.did[action] += 1

    async def _write(self, method: str, path: str, content: Document | None = None) -> httpx.Response:
        headers = {"Idempotency-Key": new_id("idem")}
        while True:
            try:
                answer = await self.http.request(method, path, json=content, headers=headers)
            except httpx.ConnectError:  # it is not there
                await asyncio.sleep(LOOK_SECONDS)
            except httpx.TransportError:  # it was killed meanwhile
                self.did["unanswered"] += 1
            else:
                return answer

    def _new(self) -> Document:
        role = self.watched.role(self.random.choice(list(VARIABLES)), replicas=self.random.randint(1, 2))
        return {
            "roles": [role.to_dict()],
            "rollout": {"independent": self.random.random() < 0.3},
            "priority": self.random.randint(0, 2),
            "graceSeconds": 1.0,
        }

    def _changed(self, old: Document, action: str) -> Document:
        role = dict(old["roles"][0])
        if action == "resize":
            role["replicas"] = self.random.randint(1, 3)
        else:
            role["command"] = [*role["command"][:-1], f"version-{self.random.randint(0, 99)}"]
        return {**old, "roles": [role]}


class Scene:
    """Control under load, and the two sides that have to agree."""

    def __init__(self, control: Control, callers: list[Caller], watched: Watched, key: str) -> None:
        self.control = control
        self.callers = callers
        self.watched = watched
        self.api = Client(control.settings.control_url, key)

    async def agreement(self) -> int:
        """Nobody writes meanwhile; returns how many processes there are."""
        last = ""

        async def is_same() -> bool:
            nonlocal last
            await asyncio.sleep(LOOK_SECONDS)
            last = self.difference(await asyncio.to_thread(self.api.list, "workloads", "p"))
            return not last

        async with AsyncExitStack() as quiet:
            for caller in self.callers:
                await quiet.enter_async_context(caller.busy)
                assert not caller.task.done(), caller.task.exception()
            self.require_all_kept(await asyncio.to_thread(self.api.list, "workloads", "p"))
            try:
                await eventually(is_same, 30)
            except AssertionError:
                pytest.fail(f"{last}\n{self.control.child.log_tail(60)}")
            return len(launchers(self.control.settings.home))

    def require_all_kept(self, workloads: list[Document]) -> None:
        """No write that was answered is lost, undone or done twice."""
        kept = {w["metadata"]["name"]: w["spec"] for w in workloads if not w["metadata"].get("owner")}
        wanted = {name: spec for caller in self.callers for name, spec in caller.wanted.items()}
        assert kept.keys() == wanted.keys()
        for name, spec in wanted.items():
            [was], [role] = kept[name]["roles"], spec["roles"]
            assert (was["command"], was["replicas"]) == (role["command"], role["replicas"]), name

    def difference(self, workloads: list[Document]) -> str:
        """What control and the nodes do not agree about, in words; empty when they do."""
        allocated: dict[int, tuple[str, int]] = {}
        commands: dict[int, str] = {}
        devices: Counter[str] = Counter()
        for workload in workloads:
            words = self._unsettled(workload, workloads)
            if words:
                return f"{workload['metadata']['name']} {words}"
            status, is_gang = workload["status"], not _is_group(workload)
            for rank in status.get("ranks", ()) if is_gang and status["phase"] == "Running" else ():
                allocated[rank["pid"]] = (workload["metadata"]["uid"], status["attempt"])
                commands[rank["pid"]] = workload["spec"]["roles"][0]["command"][-1]
                places = (f"{rank['node']}.{VARIABLES[g['vendor']]}.{g['index']}" for g in rank["grants"])
                devices.update(places)
        running, workers = launchers(self.control.settings.home), self._workers()
        if allocated != running:
            return f"control has {allocated}, the nodes have {running}"
        if max(devices.values(), default=1) > 1:
            return f"a device is given out twice: {devices}"
        if workers != Counter(commands.values()):
            return f"control has {commands}, the nodes have {workers}"
        if self.watched.held() != devices.keys():
            return f"control has {devices}, the processes use {self.watched.held()}"
        return self._room(workloads, devices)

    def _unsettled(self, workload: Document, workloads: list[Document]) -> str:
        """Why it is still on its way."""
        status, spec = workload.get("status", {}), workload["spec"]
        if _is_group(workload):
            uid, role = workload["metadata"]["uid"], spec["roles"][0]
            children = [w for w in workloads if (w["metadata"].get("owner") or {}).get("uid") == uid]
            old = [w for w in children if w["spec"]["roles"][0]["command"] != role["command"]]
            waits = any(w["status"]["phase"] == "Pending" for w in children)  # which stops its rollout
            settled = len(children) == role["replicas"] and (waits or not old)
            return "" if settled else f"has {len(children)} replicas, of them {len(old)} old ones"
        if status.get("phase") not in ("Pending", "Running") or status.get("next"):
            return f"is {status.get('phase')}"
        if status["phase"] == "Running" and len(status["ranks"]) != spec["roles"][0]["replicas"]:
            return f"has {len(status['ranks'])} ranks"
        states = {rank["state"] for rank in status.get("ranks", ()) if status["phase"] == "Running"}
        return "" if states <= {"Running"} else f"has ranks that are {states}"

    def _workers(self) -> Counter[str]:
        """The last words of the commands of live workers; a launcher is none."""
        found: Counter[str] = Counter()
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if alive and str(self.watched.script) in words and launcher.__file__ not in words:
                found[words[-1]] += 1
        return found

    def _room(self, workloads: list[Document], devices: Counter[str]) -> str:
        """Which workload waits although there is room for it and nothing is held for another."""
        free = {v: 2 - sum(f".{VARIABLES[v]}." in place for place in devices) for v, _, _ in DEVICES.values()}
        for workload in workloads:
            status, spec = workload["status"], workload["spec"]
            [role], codes = spec["roles"], {reason["code"] for reason in status.get("pending", ())}
            fits = free[role["devices"]["vendors"][0]] >= role["replicas"] and codes != {"HeldForOthers"}
            if fits and status["phase"] == "Pending" and not _is_group(workload):
                return f"{workload['metadata']['name']} waits though there is room: {codes}"
        return ""


def _is_group(workload: Document) -> bool:
    """Whether its replicas are workloads of their own, which hold the devices."""
    return bool(workload["spec"].get("rollout", {}).get("independent"))


@pytest.fixture
async def scene(
    ray_settings: Settings, ray_fabric: object, watched: Watched, tmp_path: Path
) -> AsyncIterator[Scene]:
    settings = ray_settings.model_copy(deep=True, update={"internal_token": "token-of-this-test"})
    settings.store.url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    settings.control.port = free_port()
    settings.scheduler.usage_interval_seconds = 1
    control = Control(settings, tmp_path)
    await control.start()
    with Client(settings.control_url) as client:
        key = client.bootstrap(settings.internal_token)["secret"]
    with Client(settings.control_url, key) as client:
        first: Document = {
            "Tenant": ("acme", {}),
            "Project": ("p", {"tenant": "acme"}),
            "Queue": ("default", {}),
        }
        for kind, (name, spec) in first.items():
            metadata = {"name": name}
            client.apply({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})
    scene = Scene(control, [Caller(n, settings, key, watched) for n in range(CLIENTS)], watched, key)
    yield scene
    for caller in scene.callers:
        await caller.close()
    control.kill()
    scene.api.close()


async def test_after_each_kill_what_is_allocated_is_what_runs(scene: Scene) -> None:
    chance, kills, counts = random.Random(7), 0, []
    while kills < KILLS:
        await asyncio.sleep(chance.uniform(0.1, 0.6))
        scene.control.kill()
        kills += 1
        if kills % 5 == 1:  # and once more, while it starts
            await scene.control.start_and_kill(chance.uniform(0.5, 3.0))
            kills += 1
        await scene.control.start()
        counts.append(await scene.agreement())
    did = sum((caller.did for caller in scene.callers), Counter[str]())
    assert did["create"] + did["change"] + did["resize"] + did["delete"] >= 2 * KILLS
    assert did["unanswered"], "no kill met a write"
    assert sum(count > 0 for count in counts) > len(counts) / 2, (
        f"there was hardly anything to compare: {counts}"
    )

"""Endpoints, Models and Adapters that come, change and go, and what their controller makes of it."""

import json
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from common.load import EngineLoad, ReplicaLoad
from common.resources import Adapter, ApiKey, Endpoint, Metadata, Model, Project, Workload
from common.resources.people import ApiKeySpec, ProjectSpec
from common.resources.serving import AdapterSpec, EndpointSpec, ModelSpec
from common.resources.workload import Grant, RankPlacement
from inference.replica_loads import ReplicaLoads
from inference.routes import build_routing_table
from tests.unit.inference.endpoint_world import World

PROJECTS = ("lab", "lab", "zoo")
ENDPOINTS = ("chat", "code")
MODELS = ("tiny", "tiny", "tiny", "gone", "hub", "embed")
ADAPTERS = ("a", "b")
CPU = {"vendors": ["cpu"]}
_UID = re.compile(r"(?<=uid-)\w{26}")
_LOADS = (EngineLoad(3, 1, 0.5, ((0.1, 2), (float("inf"), 4))), None)


class EndpointCourse:
    """What users and the scheduler do, drawn step by step."""

    def __init__(self, rng: random.Random, home: Path) -> None:
        self.rng = rng
        self.world = World(home)
        self.world.make_model()
        self.uids: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.before: list[str] = []

    async def play(self, steps: int) -> AsyncIterator[str]:
        """A text of each step: what is new of what was written, asked of engines, and told to gateways."""
        await self._begin()
        await self._endpoint()
        await self._endpoint()
        acts = (self._endpoint, self._adapter, self._start, self._start, self._start, self._lose, self._other)
        for _ in range(steps):
            for _ in range(self.rng.choice((1, 1, 2))):
                await self.rng.choice(acts)()
            self.world.clock.advance(self.rng.choice((0.0, 4.0, 6.0, 20.0, 400.0)))
            self.world.engines.calls.clear()
            await self.world.step(self.rng.choice((1, 2)))
            yield await self._told()

    async def _begin(self) -> None:
        store = self.world.store
        for name, tenant in (("lab", "acme"), ("zoo", "acme"), ("far", "other")):
            await store.apply(Project(metadata=Metadata(name=name), spec=ProjectSpec(tenant=tenant)))
        for name, spec in (("k", {"role": "member", "project": "lab"}), ("t", {"role": "tenant-admin"})):
            expires_ms, revoked = self.rng.choice((None, 5)), self.rng.random() < 0.3
            wish = {"tenant": "acme", "models": ["x"], "expiresMs": expires_ms, "revoked": revoked, **spec}
            await store.apply(ApiKey(metadata=Metadata(name=name), spec=ApiKeySpec.model_validate(wish)))
        tasks: list[Any] = self.rng.choice((["embeddings"], ["chat", "embeddings"]))
        await self._model("tiny", source="$(HOME_DIR)/models/tiny", shared=self.rng.random() < 0.7)
        await self._model("hub", source="org/name")
        await self._model("embed", source="org/embed", tasks=tasks)

    async def _model(self, name: str, **spec: Any) -> None:
        meta = Metadata(name=name, project="lab")
        await self.world.store.apply(Model(metadata=meta, spec=ModelSpec.model_validate(spec)))

    async def _endpoint(self) -> None:
        """One that is new, or as it is to be now; some that cannot be are refused."""
        rng = self.rng
        meta = Metadata(name=rng.choice(ENDPOINTS), project=rng.choice(PROJECTS))
        wish: dict[str, Any] = {"model": rng.choice(MODELS), "queue": rng.choice(("default", "serving"))}
        if rng.random() < 0.3:
            wish |= {
                "mode": "disaggregated",
                "prefill": {"replicas": rng.choice((0, 1, 2)), "devices": CPU},
                "decode": {"replicas": rng.choice((1, 2)), "devices": CPU, "args": ["--x"]},
                "minPromptTokens": rng.choice((None, 0, 9)),
            }
        else:
            devices = rng.choice((CPU, {"count": 2}, {}, {"vendors": ["cpu"], "count": 2}))
            wish |= {"replicas": rng.choice((0, 1, 1, 2, 3)), "devices": devices}
        engine = {"maxAdapters": rng.choice((0, 2)), "maxAdapterRank": rng.choice((8, 16))}
        more: tuple[dict[str, Any], ...] = (
            {"priority": 7},
            {"servedName": "small"},
            {"shared": True, "adapters": rng.choice((None, "own", "all"))},
            {"engine": {**engine, "maxContextTokens": 99, "env": {"A": "b"}}},
            {"engine": {**engine, "args": ["--lora-modules", "x=y"]}},
            {"engine": engine},
            {"routing": {"prefix": 0.5, "load": 2}},
        )
        for one in rng.sample(more, rng.randrange(4)):
            wish |= one
        await self.world.store.apply(Endpoint(metadata=meta, spec=EndpointSpec.model_validate(wish)))

    async def _adapter(self) -> None:
        rng = self.rng
        project, name = rng.choice(("lab", "lab", "zoo", "far")), rng.choice(ADAPTERS)
        spec = AdapterSpec(
            model="tiny",
            model_project=rng.choice((None, "lab")),
            served_name=f"ft:tiny:acme:{project}-{name}:1",
            path=rng.choice(("/adapters/1", "/adapters/2", "/adapters/bad", "$(HOME_DIR)/a")),
            rank=rng.choice((8, 16)),
        )
        meta = Metadata(name=name, project=project)
        await self.world.store.apply(Adapter(metadata=meta, spec=spec))
        self.world.engines.refused = {"/adapters/bad"} if rng.random() < 0.8 else set()

    async def _some(self) -> Workload | None:
        found = await self.world.store.list(Workload)
        return self.rng.choice(found) if found else None

    async def _start(self) -> None:
        """An engine is up; its base may have another name, and it may tell no load."""
        workload = await self._some()
        if workload is None:
            return
        rng = self.rng
        grant = Grant(device="d", index=0, vendor="cpu", model="x86-64", millis=rng.choice((500, 1000)))
        address = rng.choice(("10.0.0.1", "10.0.0.1", "fd00::1", ""))
        port = 9000 + sum(map(ord, workload.name + str(workload.project)))
        workload.status.phase = rng.choice(("Ready", "Ready", "Ready", "Running"))
        workload.status.attempt = rng.choice((1, 1, 2))
        workload.status.ranks = [
            RankPlacement(
                role=workload.spec.roles[0].name,
                replica=0,
                rank=0,
                node="n",
                grants=[grant] * rng.choice((0, 1, 1, 2)),
                state=rng.choice(("Ready", "Ready", "Ready", "Starting")),
                address=address,
                ports=rng.choice(({"http": port}, {"http": port}, {"http": port}, {"kv": 1})),
            )
        ]
        await self.world.store.set_status(workload)
        host = f"[{address}]" if ":" in address else address
        if rng.random() < 0.9:
            engine = self.world.engines.start(f"http://{host}:{port}")
            engine.load = rng.choice(_LOADS)
            engine.context_tokens = rng.choice((1024, 2048))
            if rng.random() < 0.3:
                engine.adapters = {"strange": "/s", "ft:tiny:acme:lab-a:1": "/adapters/1"}

    async def _lose(self) -> None:
        workload = await self._some()
        if workload is not None:
            workload.status.phase = self.rng.choice(("Restarting", "Pending", "Preempting"))
            await self.world.store.set_status(workload)

    async def _other(self) -> None:
        """Something goes, a name is taken, files change, or control starts anew."""
        rng, store = self.rng, self.world.store
        kind = rng.randrange(5)
        if kind == 0:
            for endpoint in (await store.list(Endpoint))[:1]:
                await store.delete(Endpoint, endpoint.name, endpoint.project)
        elif kind == 1:
            for adapter in (await store.list(Adapter))[:1]:
                await store.delete(Adapter, adapter.name, adapter.project)
        elif kind == 2:
            self.world.restart_controller()
        elif kind == 3:
            config = rng.choice(('{"max_position_embeddings": 512}', "{", '{"text_config": {}}'))
            (self.world.model_path / "config.json").write_text(config)
        else:
            await self._model("tiny", source="$(HOME_DIR)/models/tiny", shared=rng.random() < 0.5)

    async def _told(self) -> str:
        store = self.world.store
        lines = []
        for kind in (Model, Endpoint, Adapter, Workload):
            for one in await store.list(kind):
                lines.append(f"{kind.__name__} {one.key} {_json(one.status)}")
                if isinstance(one, Workload):
                    lines.append(
                        f"{_json(one.metadata.labels)} {_json(one.metadata.owner)} {_json(one.spec)}"
                    )
        table = await build_routing_table(store)
        lines += [f"route {_json(route)}" for route in table.routes] + [f"key {_json(k)}" for k in table.keys]
        loads = await ReplicaLoads(store, self.world.engines).replicas()
        calls = self.world.engines.calls
        lines += [*map(_load, loads), *(f"asked {call}" for call in calls)]
        version = self.versions.setdefault(table.version, len(self.versions))
        lines.append(f"table {version}, the next pass in {self.world.controller.tick_seconds()} s")
        lines = _UID.sub(self._short, "\n".join(lines)).splitlines()
        news = [line for line in lines if line not in self.before]
        gone = [line.partition(" {")[0] for line in self.before if line not in lines]
        self.before = lines
        return "\n".join([*news, f"otherwise: {gone}"])

    def _short(self, found: re.Match[str]) -> str:
        """Ids in the order in which they were seen."""
        return self.uids.setdefault(found[0], str(len(self.uids)))


def _load(told: ReplicaLoad) -> str:
    load = told.load and (told.load.running, told.load.waiting, told.load.first_token_buckets)
    return f"load of {told.id} ({told.millis} of {told.device_class}): {load}"


def _json(value: Any) -> str:
    content = value
    if hasattr(value, "model_dump"):
        content = value.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(content, sort_keys=True)

"""Endpoints and their controller; a scheduler that does what the test says."""

import json
from pathlib import Path

from common.clock import VirtualClock
from common.resources import Adapter, Endpoint, Metadata, Model, Workload
from common.resources.serving import AdapterSpec, EndpointSpec, ModelSpec
from common.resources.workload import Grant, RankPlacement
from common.settings import Settings
from common.store.memory import MemoryStore
from inference.controller import EndpointController
from inference.engine_workload import engine_role
from tests.fixtures.engines import FakeEngines

PROJECT = "lab"
FT = "ft:tiny:acme:zoo:1"
IN_PLACE = {"max_surge": 0, "max_unavailable": 1}
"""A rollout that needs no room."""


class World:
    """A store, a controller, and a scheduler that does what the test says."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.engines = FakeEngines()
        self.model_path = home / "models" / "tiny"
        self.restart_controller()

    def restart_controller(self) -> None:
        settings = Settings(home=self.home)
        self.controller = EndpointController(self.store, self.engines, settings, self.clock)

    def make_model(self) -> None:
        self.model_path.mkdir(parents=True)
        (self.model_path / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
        (self.model_path / "model.safetensors").write_bytes(b"weights")

    async def apply_model(self, name: str = "tiny", project: str = PROJECT, **spec: object) -> None:
        wanted = ModelSpec.model_validate({"source": "$(HOME_DIR)/models/tiny", **spec})
        await self.store.apply(Model(metadata=Metadata(name=name, project=project), spec=wanted))

    async def apply_endpoint(self, replicas: int = 1, **spec: object) -> None:
        wanted = EndpointSpec.model_validate({"model": "tiny", "replicas": replicas, **spec})
        await self.store.apply(Endpoint(metadata=Metadata(name="chat", project=PROJECT), spec=wanted))

    async def apply_adapter(self, path: str = "/adapters/1", rank: int = 16) -> None:
        spec = AdapterSpec(model="tiny", served_name=FT, path=path, rank=rank)
        await self.store.apply(Adapter(metadata=Metadata(name="zoo", project=PROJECT), spec=spec))

    async def workloads(self) -> dict[str, Workload]:
        return {w.name: w for w in await self.store.list(Workload)}

    async def endpoint(self) -> Endpoint:
        return await self.store.get(Endpoint, "chat", PROJECT)

    async def adapter(self) -> Adapter:
        return await self.store.get(Adapter, "zoo", PROJECT)

    async def start(self, name: str, attempt: int = 1) -> str:
        """What the scheduler and the agent do: the engine of that workload is up and ready."""
        workload = await self.store.get(Workload, name, PROJECT)
        role = workload.spec.roles[0].name
        first = {"": 9000, "prefill": 9100, "decode": 9200, "canary": 9300}[engine_role(workload)]
        port = first + int(name.rpartition("-")[2])
        grant = Grant(device="d", index=0, vendor="cpu", model="x86-64")
        workload.status.phase, workload.status.attempt = "Ready", attempt
        workload.status.ranks = [
            RankPlacement(
                role=role,
                replica=0,
                rank=0,
                node="n",
                grants=[grant],
                state="Ready",
                address="10.0.0.1",
                ports={"http": port},
            )
        ]
        await self.store.set_status(workload)
        url = f"http://10.0.0.1:{port}"
        self.engines.start(url)
        return url

    async def lose(self, name: str) -> None:
        workload = await self.store.get(Workload, name, PROJECT)
        workload.status.phase = "Restarting"
        await self.store.set_status(workload)

    async def let_leave(self) -> None:
        """As much time as engines need that are not wanted any more and have nothing to do."""
        for _ in range(5):
            self.clock.advance(3)
            await self.controller.step()

    async def step(self, times: int = 2) -> None:
        for _ in range(times):
            await self.controller.step()

"""A world whose Endpoints follow their load: an autoscaler, a controller, and engines that do what the test
says."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.load import EngineLoad
from common.resources import Project
from common.resources.meta import Metadata
from common.resources.people import ProjectSpec
from common.wire import Demand, DemandReport
from inference.autoscaling.autoscaler import Autoscaler
from inference.autoscaling.board import DemandBoard
from inference.replica_loads import ReplicaLoads
from inference.routes import build_routing_table
from tests.unit.inference.endpoint_world import PROJECT, World

INFINITE = float("inf")
SMALL = {"maxReplicas": 3, "targets": {"requestsPerReplica": 10}, "scaleDownAfterSeconds": 60}
SLEEPY = {**SMALL, "minReplicas": 0, "scaleToZeroAfterSeconds": 30}


class ElasticWorld(World):
    """A world with an autoscaler, whose engines are up as soon as they are asked for."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.make_model()
        self.up: dict[str, str] = {}
        self.restart_autoscaler()

    def restart_autoscaler(self) -> None:
        board = DemandBoard(self.clock)
        self.autoscaler = Autoscaler(self.store, ReplicaLoads(self.store, self.engines), board, self.clock)

    async def begin(self, replicas: int = 1, **spec: Any) -> None:
        await self.store.apply(Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant="acme")))
        await self.apply_model()
        await self.apply_endpoint(replicas, **spec)

    async def go(self, seconds: float) -> None:
        """Looks and passes, and engines that come up."""
        for _ in range(max(1, round(seconds / 5))):
            self.clock.advance(5)
            await self.autoscaler.step()
            await self.controller.step()
            for name in await self.workloads():
                if name not in self.up:
                    self.up[name] = await self.start(name)
            self.up = {name: url for name, url in self.up.items() if name in await self.workloads()}
            await self.controller.step()

    def work(self, running: Iterable[int] | int) -> None:
        """What engines have to do from now on, in the order of their names."""
        urls = [self.up[name] for name in sorted(self.up)]
        each = [running] * len(urls) if isinstance(running, int) else list(running)
        for url, count in zip(urls, each, strict=False):
            self.engines.running[url].load = EngineLoad(count, 0, 0.0, ((0.1, 0), (INFINITE, 0)))

    def hold(self, count: int, gateway: str = "g") -> None:
        demands = (Demand(endpoint=f"{PROJECT}/chat", held=count),)
        self.autoscaler.board.report(DemandReport(gateway=gateway, demands=demands))

    async def served(self) -> list[str]:
        routes = (await build_routing_table(self.store)).routes
        return next([replica.id for replica in route.replicas] for route in routes if route.model == "tiny")

    async def events(self) -> list[tuple[str, str]]:
        found = await self.store.events(kind="Endpoint")
        return [(one.reason, one.message) for one in found if one.reason not in ("Ready", "NotReady")]

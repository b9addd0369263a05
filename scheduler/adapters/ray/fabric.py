"""The fabric on a Ray cluster: one detached, named agent actor per Ray node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import scheduler
from common.clock import SYSTEM_CLOCK, Clock
from common.errors import ComputilityError, Conflict, NotFound, SetupError, Unavailable
from common.settings import Settings
from common.telemetry import get_logger
from scheduler.adapters.ray.agent import ABANDONED, Agent, AgentOptions, AgentReport
from scheduler.adapters.ray.holding import Holdings, withheld
from scheduler.adapters.ray.names import in_cluster, unique_name
from scheduler.adapters.ray.threads import in_ray_thread
from scheduler.adapters.ray.watches import UNTOLD_SECONDS, Watch
from scheduler.ports import DeviceSample, GangOrder, GangRecord, LogChunk, NodeObservation
from scheduler.sessions import SessionAnswer, SessionAsk

NAMESPACE = "computility"
AGENT_LABEL = "computility.io/agent"
"""A Ray node with this label and the value ``none`` gets no agent: it is there for a driver alone."""
LISTING_TIMEOUT_SECONDS = 15.0
OBSERVE_TIMEOUT_SECONDS = 5.0
PROMPT_SECONDS = 1.0
"""How long a look at all nodes waits for those that answered last time; it never waits for silent ones."""
CALL_TIMEOUT_SECONDS = 10.0

_log = get_logger(__name__)


@dataclass
class _Known:
    """A Ray node with its agent, and when it answered last. ``observation`` is None until it first has."""

    ray_id: str
    name: str
    address: str
    agent: Any
    seen_seconds: float
    observation: NodeObservation | None = None
    question: asyncio.Task[AgentReport] | None = None
    silent: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.agent)


class RayFabric:
    """Implements ``scheduler.ports.Fabric``. Connects on first use. The names of nodes begin with ``cluster``
    where one is given."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK, cluster: str = "") -> None:
        self._settings = settings
        self._clock = clock
        self._cluster = cluster
        self._root = str(Path(scheduler.__file__).parent.parent)
        self._holdings = Holdings(settings.ray.accelerator_resources, NAMESPACE, self._root, clock)
        self._known: dict[str, _Known] = {}
        self._lost: dict[str, NodeObservation] = {}
        self._connected_here = False
        self._listing = asyncio.Lock()
        self._dismissed = False
        self._news = asyncio.Event()
        self._epoch = 0

    async def lead(self, epoch: int) -> None:
        """See ``ports.Fabric.lead``. Agents of earlier versions know no epochs and take all orders."""
        self._epoch = epoch

    async def nodes(self) -> Sequence[NodeObservation]:
        """See ``ports.Fabric.nodes``. Raises ``SetupError`` where another installation uses the cluster."""
        async with self._listing:
            if self._dismissed:
                return []
            await self._connect()
            listing = await self._list_ray_nodes()
            await self._meet(listing)
            self._holdings.follow(listing)
            self._part({row["NodeID"] for row in listing})
            await self._ask_all()
            observations = [self._answer_of(known) for known in list(self._known.values())]
        names = {observation.name for observation in observations}
        self._lost = {name: lost for name, lost in self._lost.items() if name not in names}
        return sorted([*observations, *self._lost.values()], key=lambda observation: observation.name)

    async def _connect(self) -> None:
        if ray.is_initialized():
            return
        if not self._settings.ray.address:
            raise SetupError("ray.address is not set: there is no Ray cluster to join")
        beside = self._settings.ray.driver_address
        through = {"_node_ip_address": beside} if beside else {}
        try:
            await in_ray_thread(
                ray.init,
                address=self._settings.ray.address,
                namespace=NAMESPACE,
                log_to_driver=False,
                configure_logging=False,
                **through,
            )
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise Unavailable(f"Ray at {self._settings.ray.address} cannot be reached: {error}") from error
        self._connected_here = True

    async def _list_ray_nodes(self) -> list[dict[str, Any]]:
        try:
            rows = await asyncio.wait_for(in_ray_thread(ray.nodes), LISTING_TIMEOUT_SECONDS)
        except (TimeoutError, RayError, RuntimeError) as error:
            raise Unavailable(f"Ray does not list its nodes: {error}") from error
        alive = (row for row in rows if row["Alive"] and bears_agent(row))
        return sorted(alive, key=lambda row: row["NodeID"])

    async def _meet(self, listing: list[dict[str, Any]]) -> None:
        """Adopt the agents of nodes that are new here; make those that do not exist yet."""
        new = [row for row in listing if row["NodeID"] not in self._known]
        adopted = [row["NodeID"] for row in new if await self._adopt(row)]
        for row in new:
            if row["NodeID"] not in adopted:
                self._make_agent(row)

    async def _adopt(self, row: dict[str, Any]) -> bool:
        """Whether the node's agent exists already and has told its name."""
        try:
            agent = await in_ray_thread(ray.get_actor, agent_name(row["NodeID"]), NAMESPACE)
            question = agent.node.remote(self._settings.instance)
            name = await asyncio.wait_for(question, OBSERVE_TIMEOUT_SECONDS)
        except RayTaskError as error:
            _replace_or_refuse(agent, error)
            return False
        except (ValueError, TimeoutError, RayError):
            return False
        self._remember(row, in_cluster(name, self._cluster), agent)
        return True

    def _make_agent(self, row: dict[str, Any]) -> None:
        settings = self._settings
        name = in_cluster(unique_name(row, {known.name for known in self._known.values()}), self._cluster)
        options = AgentOptions(
            node=name,
            address=self._address_of(row),
            home=str(settings.home),
            instance=settings.instance,
            cpu_device=settings.scheduler.cpu_device,
            device_file=settings.scheduler.device_file,
            grace_seconds=settings.scheduler.stop_grace_seconds,
            log_days=settings.retention.log_days,
            log_bytes=settings.retention.log_bytes,
            process_log_bytes=settings.retention.process_log_bytes,
            gang_environment=tuple(settings.scheduler.gang_environment),
            sandbox_mode=settings.sandbox.mode,
        )
        actor = ray.remote(Agent).options(
            name=agent_name(row["NodeID"]),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(row["NodeID"], soft=False),
            runtime_env={"env_vars": {"PYTHONPATH": self._root}},
        )
        self._remember(row, name, actor.remote(options))
        _log.info("node joined", node=name, ray_node_id=row["NodeID"])

    def _remember(self, row: dict[str, Any], name: str, agent: Any) -> None:
        self._known[row["NodeID"]] = _Known(
            ray_id=row["NodeID"],
            name=name,
            address=self._address_of(row),
            agent=agent,
            seen_seconds=self._clock.monotonic_seconds(),
            labels=dict(row.get("Labels") or {}),
        )

    def _address_of(self, row: dict[str, Any]) -> str:
        return self._settings.ray.node_address or str(row["NodeManagerAddress"])

    def _part(self, alive: set[str]) -> None:
        """Nodes that Ray has given up are lost."""
        for ray_id in [ray_id for ray_id in self._known if ray_id not in alive]:
            known = self._known.pop(ray_id)
            _drop_question(known)
            self._lost[known.name] = self._last(known, "Lost")
            _log.warning("node lost", node=known.name, ray_node_id=ray_id)

    async def _ask_all(self) -> None:
        """Ask every agent that has no question open, and wait a moment for those that are not silent."""
        for known in self._known.values():
            if known.question is None:
                known.question = asyncio.create_task(_ask(known.agent, self._epoch, self._settings.instance))
        prompt = [known.question for known in self._known.values() if known.question and not known.silent]
        if prompt:
            await asyncio.wait(prompt, timeout=PROMPT_SECONDS)

    def _answer_of(self, known: _Known) -> NodeObservation:
        question = known.question
        if question is None or not question.done():
            known.silent = True
            return self._silent(known, None)
        known.question = None
        error = question.exception()
        if isinstance(error, RayTaskError):
            _replace_or_refuse(known.agent, error)
        if error is not None:
            known.silent = True
            return self._silent(known, error)
        report, known.silent = question.result(), False
        known.watch.version = report.version
        known.name = in_cluster(report.node, self._cluster)
        known.seen_seconds = self._clock.monotonic_seconds()
        known.observation = self._observation(known, report)
        return known.observation

    def _observation(self, known: _Known, report: AgentReport) -> NodeObservation:
        held = self._holdings.of(known.ray_id)
        return NodeObservation(
            name=known.name,
            ray_node_id=known.ray_id,
            address=known.address,
            state="Alive",
            devices=report.devices,
            probe_faults=report.probe_faults,
            cpu_cores=report.cpu_cores,
            memory_bytes=report.memory_bytes,
            gangs=report.gangs,
            cluster=self._cluster,
            labels={**report.labels, **known.labels},
            cached=report.cached,
            drivers=report.drivers,
            memory_available_bytes=report.memory_available_bytes,
            withheld=withheld(report.devices, held),
            taken=held.message if held else "",
        )

    def _silent(self, known: _Known, error: BaseException | None) -> NodeObservation:
        silence = self._clock.monotonic_seconds() - known.seen_seconds
        if isinstance(error, ActorDiedError):
            known.watch.drop()
            self._known.pop(known.ray_id, None)  # for good, so it is made anew in the next round
        if silence < self._settings.scheduler.node_lost_seconds:
            return self._last(known, "Silent")
        if error is not None:
            _log.warning("agent is silent", node=known.name, seconds=round(silence), error=str(error))
        return self._last(known, "Lost")

    def _last(self, known: _Known, state: Any) -> NodeObservation:
        blank = NodeObservation(known.name, known.ray_id, known.address, state)
        last = known.observation or blank
        return replace(last, state=state, gangs=last.gangs if state == "Silent" else ())

    async def news(self, seconds: float) -> None:
        """See ``ports.Fabric.news``."""
        self._news.clear()
        instance, tell = self._settings.instance, self._news.set
        told = [known.watch.open(instance, tell) for known in self._known.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds if all(told) else min(seconds, UNTOLD_SECONDS)):
                await self._news.wait()

    async def ensure_gang(self, node: str, order: GangOrder) -> GangRecord:
        """See ``ports.Fabric.ensure_gang``."""
        record: GangRecord = await self._call(node, "ensure_gang", order)
        return record

    async def stop_gang(self, node: str, uid: str, attempt: int, grace_seconds: float) -> None:
        """See ``ports.Fabric.stop_gang``."""
        await self._call(node, "stop_gang", uid, attempt, grace_seconds)

    async def forget_gang(self, node: str, uid: str, attempt: int) -> None:
        """See ``ports.Fabric.forget_gang``."""
        await self._call(node, "forget_gang", uid, attempt)

    async def mark_metered(self, node: str, uid: str, attempt: int, spans: Mapping[int, int]) -> None:
        """See ``ports.Fabric.mark_metered``."""
        await self._call(node, "mark_metered", uid, attempt, dict(spans))

    async def read_log(
        self, node: str, uid: str, attempt: int, rank: int, offset_bytes: int, limit_bytes: int
    ) -> LogChunk:
        """See ``ports.Fabric.read_log``."""
        chunk: LogChunk = await self._call(node, "read_log", uid, attempt, rank, offset_bytes, limit_bytes)
        return chunk

    async def session(self, node: str, uid: str, attempt: int, rank: int, ask: SessionAsk) -> SessionAnswer:
        """See ``ports.Fabric.session``."""
        answer: SessionAnswer = await self._call(node, "session", uid, attempt, rank, ask)
        return answer

    async def series(self, node: str) -> Mapping[str, Sequence[DeviceSample]]:
        """See ``ports.Fabric.series``."""
        series: Mapping[str, Sequence[DeviceSample]] = await self._call(node, "series")
        return series

    async def _call(self, node: str, method: str, *arguments: object) -> Any:
        """Ask a node's agent. Its own typed errors come back as they are; all else is ``Unavailable``."""
        known = next((known for known in self._known.values() if known.name == node), None)
        if known is None:
            raise NotFound(f"there is no node {node!r} in the Ray cluster now")
        try:
            reference = _called(known.agent, self._epoch, method, *arguments)
            return await asyncio.wait_for(reference, CALL_TIMEOUT_SECONDS)
        except RayTaskError as error:
            if isinstance(error.cause, ComputilityError):
                raise error.cause from None
            raise Unavailable(f"the agent of {node} failed in {method}: {error}") from error
        except (TimeoutError, RayError) as error:
            raise Unavailable(f"the agent of {node} does not answer {method}: {error}") from error

    async def dismiss_agents(self) -> None:
        """See ``ports.Fabric.dismiss_agents``."""
        async with self._listing:
            self._dismissed = True
            if ray.is_initialized():
                await self._holdings.dismiss()
            for known in self._known.values():
                try:
                    await in_ray_thread(ray.kill, known.agent, no_restart=True)
                except RayError as error:
                    _log.warning("agent not ended", node=known.name, error=str(error))
                known.watch.drop()
            self._known.clear()

    async def close(self) -> None:
        """Disconnect; agents and gangs stay."""
        await self._holdings.pause()
        for known in self._known.values():
            _drop_question(known)
        self._known.clear()
        if self._connected_here and ray.is_initialized():
            await in_ray_thread(ray.shutdown)
        self._connected_here = False


def _drop_question(known: _Known) -> None:
    """Nobody waits for its answers any more."""
    known.watch.drop()
    if known.question is not None:
        known.question.add_done_callback(lambda task: task.cancelled() or task.exception())
        known.question.cancel()


def _replace_or_refuse(agent: Any, error: RayTaskError) -> None:
    """Where the agent is of another installation: end it if that one has left it behind, else raise
    ``SetupError``."""
    refusal = error.cause
    if not isinstance(refusal, Conflict):
        return
    if refusal.code != ABANDONED:
        raise SetupError(refusal.message, code=refusal.code) from None
    _log.warning("agent of another installation replaced", refusal=refusal.message)
    ray.kill(agent, no_restart=True)


async def _ask(agent: Any, epoch: int, instance: str) -> AgentReport:
    question = _called(agent, epoch, "observe", instance)
    report: AgentReport = await asyncio.wait_for(question, OBSERVE_TIMEOUT_SECONDS)
    return report


def _called(agent: Any, epoch: int, method: str, *arguments: object) -> Any:
    """The reference to what the agent will answer. Who leads says so with each call."""
    if epoch and hasattr(agent, "led_by"):
        return agent.led_by.remote(epoch, method, *arguments)
    return getattr(agent, method).remote(*arguments)


def bears_agent(row: Mapping[str, Any]) -> bool:
    """Whether a Ray node is one for gangs; those beside control and the cluster's head need not be."""
    return (row.get("Labels") or {}).get(AGENT_LABEL) != "none"


def agent_name(ray_node_id: str) -> str:
    """The actor's name in the namespace."""
    return f"computility-agent-{ray_node_id}"

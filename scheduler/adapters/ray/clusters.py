"""Several Ray clusters as one fabric. A cluster that cannot be reached takes only its own nodes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import ComputilityError, NotFound, Unavailable
from common.settings import Settings
from common.telemetry import get_logger
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.adapters.ray.link import ClusterLink
from scheduler.ports import DeviceSample, Fabric, GangOrder, GangRecord, LogChunk, NodeObservation
from scheduler.sessions import SessionAnswer, SessionAsk

PROMPT_SECONDS = 2.0
"""How long a look at all nodes waits for clusters that answered last time; not at all for silent ones."""
_log = get_logger(__name__)


@dataclass
class _Member:
    """A cluster, and what it said last."""

    name: str
    fabric: Fabric
    seen_seconds: float
    nodes: tuple[NodeObservation, ...] = ()
    question: asyncio.Task[Sequence[NodeObservation]] | None = None
    news: asyncio.Task[None] | None = None
    silent: bool = False
    answered: bool = field(default=False)


class ManyClusters:
    """Implements ``scheduler.ports.Fabric`` over one fabric per cluster. Node names are unique because those
    of a named cluster begin with its name."""

    def __init__(
        self, fabrics: Mapping[str, Fabric], node_lost_seconds: float, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        now = clock.monotonic_seconds()
        self._members = [_Member(name, fabric, now) for name, fabric in fabrics.items()]
        self._node_lost_seconds = node_lost_seconds
        self._clock = clock
        self._asking = asyncio.Lock()

    async def nodes(self) -> Sequence[NodeObservation]:
        """See ``ports.Fabric.nodes``. Raises ``Unavailable`` while no cluster has answered yet."""
        async with self._asking:
            for member in self._members:
                if member.question is None:
                    member.question = asyncio.create_task(_ask(member.fabric))
            prompt = [member.question for member in self._members if member.question and not member.silent]
            if prompt:
                await asyncio.wait(prompt, timeout=PROMPT_SECONDS)
            errors = [error for member in self._members if (error := self._hear(member))]
        if not any(member.answered for member in self._members):
            reasons = "; ".join(errors) or "no answer yet"
            raise Unavailable(f"no Ray cluster can be reached: {reasons}")
        nodes = (node for member in self._members for node in member.nodes)
        return sorted(nodes, key=lambda node: node.name)

    def _hear(self, member: _Member) -> str:
        """Take the answer if there is one; returns what is wrong, or nothing."""
        question = member.question
        if question is None or not question.done():
            self._miss(member)
            return f"{member.name}: no answer yet"
        member.question = None
        error = question.exception()
        if error is not None:
            self._miss(member)
            return f"{member.name}: {error}"
        member.nodes, member.silent, member.answered = tuple(question.result()), False, True
        member.seen_seconds = self._clock.monotonic_seconds()
        return ""

    def _miss(self, member: _Member) -> None:
        member.silent = True
        silence = self._clock.monotonic_seconds() - member.seen_seconds
        if silence < self._node_lost_seconds:
            member.nodes = tuple(
                node if node.state == "Lost" else replace(node, state="Silent") for node in member.nodes
            )
        elif any(node.state != "Lost" for node in member.nodes):
            _log.warning("cluster lost", cluster=member.name, seconds=round(silence))
            member.nodes = tuple(replace(node, state="Lost", gangs=()) for node in member.nodes)

    async def news(self, seconds: float) -> None:
        """See ``ports.Fabric.news``. A cluster that does not answer has none."""
        for member in self._members:
            if member.news is None or member.news.done():
                member.news = asyncio.create_task(_news(member.fabric, seconds))
        waiting = [member.news for member in self._members if member.news]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def lead(self, epoch: int) -> None:
        """See ``ports.Fabric.lead``."""
        for member in self._members:
            await member.fabric.lead(epoch)

    def _of(self, node: str) -> Fabric:
        for member in self._members:
            if any(known.name == node for known in member.nodes):
                return member.fabric
        raise NotFound(f"there is no node {node!r} in any Ray cluster now")

    async def ensure_gang(self, node: str, order: GangOrder) -> GangRecord:
        """See ``ports.Fabric.ensure_gang``."""
        return await self._of(node).ensure_gang(node, order)

    async def stop_gang(self, node: str, uid: str, attempt: int, grace_seconds: float) -> None:
        """See ``ports.Fabric.stop_gang``."""
        await self._of(node).stop_gang(node, uid, attempt, grace_seconds)

    async def forget_gang(self, node: str, uid: str, attempt: int) -> None:
        """See ``ports.Fabric.forget_gang``."""
        await self._of(node).forget_gang(node, uid, attempt)

    async def mark_metered(self, node: str, uid: str, attempt: int, spans: Mapping[int, int]) -> None:
        """See ``ports.Fabric.mark_metered``."""
        await self._of(node).mark_metered(node, uid, attempt, spans)

    async def read_log(
        self, node: str, uid: str, attempt: int, rank: int, offset_bytes: int, limit_bytes: int
    ) -> LogChunk:
        """See ``ports.Fabric.read_log``."""
        return await self._of(node).read_log(node, uid, attempt, rank, offset_bytes, limit_bytes)

    async def session(self, node: str, uid: str, attempt: int, rank: int, ask: SessionAsk) -> SessionAnswer:
        """See ``ports.Fabric.session``."""
        return await self._of(node).session(node, uid, attempt, rank, ask)

    async def series(self, node: str) -> Mapping[str, Sequence[DeviceSample]]:
        """See ``ports.Fabric.series``."""
        return await self._of(node).series(node)

    async def dismiss_agents(self) -> None:
        """See ``ports.Fabric.dismiss_agents``."""
        await self._each("dismiss_agents")
        for member in self._members:
            member.nodes = ()

    async def close(self) -> None:
        """See ``ports.Fabric.close``."""
        for member in self._members:
            for asked in (member.question, member.news):
                if asked is not None:
                    asked.cancel()
        await self._each("close")

    async def _each(self, method: str) -> None:
        calls = (getattr(member.fabric, method)() for member in self._members)
        for member, outcome in zip(
            self._members, await asyncio.gather(*calls, return_exceptions=True), strict=True
        ):
            if isinstance(outcome, ComputilityError):
                _log.warning("cluster does not answer", cluster=member.name, error=outcome.message)
            elif isinstance(outcome, BaseException):
                raise outcome


async def _ask(fabric: Fabric) -> Sequence[NodeObservation]:
    return await fabric.nodes()


async def _news(fabric: Fabric, seconds: float) -> None:
    began = asyncio.get_running_loop().time()
    try:
        await fabric.news(seconds)
    except ComputilityError:
        await asyncio.sleep(began + seconds - asyncio.get_running_loop().time())


def fabric_for(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Fabric:
    """The fabric of all clusters in the settings.

    One cluster is joined by this process. Of several each has a process of its own: who has joined a Ray
    cannot join another, and may end when it goes.
    """
    clusters = settings.ray.clusters
    if not clusters:
        return RayFabric(settings, clock)
    addresses = {"": settings.ray.address, **clusters} if settings.ray.address else clusters
    links = {name: ClusterLink(settings, name, address, clock) for name, address in addresses.items()}
    return ManyClusters(links, settings.scheduler.node_lost_seconds, clock)

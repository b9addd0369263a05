"""What the scheduler needs from outside: a fabric that runs gangs on nodes, and a place for usage events."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from common.load import ReplicaLoad
from common.log_times import Mark
from common.resources.pool import Device
from common.resources.sessions import Session
from common.resources.workload import Grant, Readiness, Sandbox, Workload
from scheduler.sessions import SessionAnswer, SessionAsk

RankRunState = Literal["Starting", "Running", "Ready", "Exited"]


@dataclass(frozen=True)
class Stop:
    """Why a workload may not run for now: ``code`` is one of ``common.resources.workload.STOPS``."""

    code: str
    message: str


class Stops(Protocol):
    """What may not run for now, whatever room there is."""

    async def look(self) -> Collection[str]:
        """Learn what holds now. Returns the tenants for whom something is other than at the last look."""
        ...

    def why(self, workload: Workload, tenant: str) -> Stop | None:
        """Why a workload, for whose time ``tenant`` pays, may not run; None where it may."""
        ...


@dataclass(frozen=True)
class HostPort:
    """A host and a TCP port."""

    host: str
    port: int


@dataclass(frozen=True)
class Billing:
    """To whom the device time of a gang is charged. Travels with the gang, so that it outlives the workload.

    ``interval_seconds`` is pinned at the start: the spans of a run must not change with a setting.
    """

    tenant: str
    project: str
    workload: str
    model: str = ""
    key: str = ""
    interval_seconds: int = 60
    model_identity: str = ""


@dataclass(frozen=True)
class RankOrder:
    """One process to start. Placeholders in ``command`` and ``env`` are not yet replaced."""

    rank: int
    role: str
    replica: int
    command: tuple[str, ...]
    env: Mapping[str, str]
    ports: tuple[str, ...]
    grants: tuple[Grant, ...]
    readiness: Readiness | None = None
    sandbox: Sandbox | None = None
    session: Session | None = None


@dataclass(frozen=True)
class GangOrder:
    """The ranks of one gang that one node runs. (``uid``, ``attempt``) is the gang's identity.

    ``beside``: the attempt of the same uid that may be alive there meanwhile (the one that this replaces).

    ``master`` is where rank 0 listens for the others; None on rank 0's node, which picks it.
    ``always_ranked``: a rank alone is told its place too; not where its libraries would then look for others.
    ``engine_key`` replaces ``$(ENGINE_KEY)`` in the environment of ranks; empty = this gang may not have it.
    """

    uid: str
    attempt: int
    world_size: int
    digest: str
    billing: Billing
    ranks: tuple[RankOrder, ...]
    master: HostPort | None = None
    engine_key: str = field(default="", repr=False)
    beside: int | None = None
    always_ranked: bool = False


@dataclass(frozen=True)
class RankRecord:
    """A started process. ``exit_code`` is 128 + n for one that signal n ended; ``log_tail`` is set when it
    has ended. ``idle``: its session has had no input for as long as it may."""

    rank: int
    role: str
    replica: int
    state: RankRunState
    address: str
    started_ms: int
    ports: Mapping[str, int] = field(default_factory=dict)
    grants: tuple[Grant, ...] = ()
    pid: int | None = None
    exit_code: int | None = None
    finished_ms: int | None = None
    log_tail: str = ""
    metered_spans: int = 0
    idle: bool = False


@dataclass(frozen=True)
class GangRecord:
    """What a node knows of a gang, until it is told to forget it."""

    uid: str
    attempt: int
    digest: str
    billing: Billing
    ranks: tuple[RankRecord, ...]
    master: HostPort | None = None
    stopping: bool = False

    @property
    def alive(self) -> bool:
        """Whether any of its processes may still be there."""
        return any(rank.state != "Exited" for rank in self.ranks)


@dataclass(frozen=True)
class DeviceSample:
    """The load of a device at one moment; None = its driver does not tell."""

    time_ms: int
    healthy: bool
    utilisation_percent: int | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: int | None = None
    power_watts: int | None = None


@dataclass(frozen=True)
class NodeObservation:
    """A node as last seen. ``Silent``: its agent has not answered just now, so the rest is old. ``Lost``:
    given up.

    ``withheld``: ids of devices that may not be given out now, because others may have them: ``taken`` says
    who, in words. ``cached``: names of models and datasets
    on its disk. ``drivers``: vendor -> version.
    """

    name: str
    ray_node_id: str
    address: str
    state: Literal["Alive", "Silent", "Lost"]
    devices: tuple[Device, ...] = ()
    probe_faults: Mapping[str, str] = field(default_factory=dict)
    cpu_cores: int = 0
    memory_bytes: int = 0
    gangs: tuple[GangRecord, ...] = ()
    cluster: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cached: tuple[str, ...] = ()
    drivers: Mapping[str, str] = field(default_factory=dict)
    memory_available_bytes: int = 0
    withheld: frozenset[str] = frozenset()
    taken: str = ""


@dataclass(frozen=True)
class LogChunk:
    """Bytes of a log from some offset on; ``next_offset`` is where to read on. ``size_bytes``: the log's
    size now. ``times``: when these bytes were written, as far as it was noted; all notes where no byte was
    asked for."""

    data: bytes
    next_offset: int
    size_bytes: int
    times: tuple[Mark, ...] = ()


class Fabric(Protocol):
    """Nodes, and gangs on them. Every call may raise ``Unavailable``; all may be repeated."""

    async def lead(self, epoch: int) -> None:
        """From now on orders are those of the leader of this epoch. Nodes that have heard of a later one
        refuse them, with ``Unavailable`` and the code ``not_leading``."""
        ...

    async def nodes(self) -> Sequence[NodeObservation]:
        """All nodes that are or were in the cluster while this process has run, by name."""
        ...

    async def news(self, seconds: float) -> None:
        """Return when something on a node is other than at the last look, or can be told no more; after so
        many seconds at the latest. Load, marks of device time and a node that comes are no news."""
        ...

    async def ensure_gang(self, node: str, order: GangOrder) -> GangRecord:
        """Start the gang's ranks on ``node`` unless this (uid, attempt) is known there.

        Raises ``Conflict`` while another attempt of the same uid (but ``order.beside``) is alive there,
        ``NotFound`` for an unknown node.
        """
        ...

    async def stop_gang(self, node: str, uid: str, attempt: int, grace_seconds: float) -> None:
        """Begin to stop it: SIGTERM, and SIGKILL after the grace. Unknown gangs are stopped already."""
        ...

    async def forget_gang(self, node: str, uid: str, attempt: int) -> None:
        """Drop the record of a gang that has ended. Raises ``Conflict`` while it is alive."""
        ...

    async def mark_metered(self, node: str, uid: str, attempt: int, spans: Mapping[int, int]) -> None:
        """Keep, for each rank, how many spans of its device time the ledger has: saves deriving them
        again."""
        ...

    async def read_log(
        self, node: str, uid: str, attempt: int, rank: int, offset_bytes: int, limit_bytes: int
    ) -> LogChunk:
        """A piece of the log of a rank of the workload ``uid``; a negative offset counts from the end. Raises
        ``NotFound`` when there is none."""
        ...

    async def session(self, node: str, uid: str, attempt: int, rank: int, ask: SessionAsk) -> SessionAnswer:
        """Something that a person wants of the session of a rank; answered within some seconds, then with
        nothing. Raises ``NotFound`` where there is none, ``TooManyRequests`` for what is not taken yet."""
        ...

    async def series(self, node: str) -> Mapping[str, Sequence[DeviceSample]]:
        """Per device id its samples of the last hour at most, the oldest first."""
        ...

    async def dismiss_agents(self) -> None:
        """End what runs on the nodes for gangs, and gangs that are alive with it. For good: this process sees
        no nodes any more."""
        ...

    async def close(self) -> None:
        """Let go of the cluster. Gangs run on."""
        ...


class ServingLoads(Protocol):
    """What inference does with its devices."""

    async def replicas(self) -> Sequence[ReplicaLoad]:
        """Every engine that is ready, also one that did not tell its load. Raises ``Unavailable`` when it is
        not known which are."""
        ...


class RejectedSink(Protocol):
    """Keeps what cannot be billed, for people to look at."""

    async def keep(self, event: Mapping[str, Any], reason: str) -> None:
        """Return when it is durable. Raises ``OSError``."""
        ...

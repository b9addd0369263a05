"""What is known of replicas and of a request when one is chosen for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.core.routing.blocks import block_keys, session_key
from inference.core.routing.breaker import Breaker


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part of the cost counts; 0 = not at all."""

    prefix: float = 1.0
    queue: float = 1.0
    load: float = 1.0
    cache: float = 1.0
    adapter: float = 1.0
    session: float = 1.0


EVEN = Weights()


@dataclass(slots=True)
class ReplicaView:
    """One replica as this gateway sees it. ``slot`` is its bit in sets of replicas.

    ``unread_bytes``: of prompts that were sent and not begun to be answered, less what was in its cache.
    ``adapters``: requests in flight by adapter. ``adapter_slots``: adapters that it can work with at once.
    As it told last: ``others``, requests that are not this gateway's; ``cache_use``, part of its cache that
    running requests hold; ``started``, which process that was.
    """

    name: str
    slot: int
    in_flight: int = 0
    unread_bytes: int = 0
    adapter_slots: int = 0
    others: int = 0
    cache_use: float = 0.0
    started: str | None = None
    adapters: dict[str, int] = field(default_factory=dict)
    breaker: Breaker = field(default_factory=Breaker)


class Ask:
    """One request, as far as the choice goes.

    ``start`` is the beginning of its chain (``partition``), empty where no cache helps. ``adapter`` is empty
    for a base model, ``session`` where the client names none.
    """

    __slots__ = ("_keys", "adapter", "prompt", "session", "start")

    def __init__(self, prompt: memoryview, start: bytes, adapter: str = "", session: str = "") -> None:
        self.prompt = prompt
        self.start = start
        self.adapter = adapter
        self.session = session_key(session, start) if session and start else None
        self._keys: Sequence[int] | None = None if start else ()

    @property
    def keys(self) -> Sequence[int]:
        """Of the prompt's blocks: made when they are first asked for."""
        if self._keys is None:
            self._keys = block_keys(self.prompt, self.start)
        return self._keys


class Group:
    """Replicas among which one is chosen, by name."""

    __slots__ = ("mask", "members", "turn")

    def __init__(self, members: Sequence[ReplicaView]) -> None:
        self.members = sorted(members, key=lambda view: view.name)
        self.mask = sum(1 << view.slot for view in self.members)
        self.turn = 0

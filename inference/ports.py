"""What control needs from engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from billing.core.reconciliation import Counts
from common.load import EngineLoad


@dataclass(frozen=True)
class LoadedModel:
    """One name that an engine answers to. ``base`` is the name of an adapter's base, None for a base model.

    ``path`` is where the engine read it from; ``context_tokens`` is None where the engine does not say.
    """

    name: str
    base: str | None = None
    path: str = ""
    context_tokens: int | None = None


@dataclass(frozen=True)
class EngineCounters:
    """What the process of an engine has counted since ``started_ms`` (0 = it does not tell), and how many
    sequences it works on or has waiting."""

    started_ms: int
    counts: Counts
    under_way: int


class CountingEngines(Protocol):
    """Engines that tell what they have counted."""

    async def counters(self, url: str) -> EngineCounters:
        """Raises ``Unavailable`` when the engine cannot be reached, ``EngineFailed`` where it does not
        count."""
        ...


class Engines(Protocol):
    """Running engines, each addressed by its base URL without ``/v1``.

    Every method raises ``Unavailable`` when the engine cannot be reached or is too slow, and ``EngineFailed``
    when it answers with something that it should not.
    """

    async def loaded_models(self, url: str) -> Sequence[LoadedModel]:
        """All names that the engine answers to: the base model and its adapters."""
        ...

    async def load_adapter(self, url: str, name: str, path: str) -> None:
        """Make the adapter at ``path`` answer to ``name``; one that has the name already is replaced.

        Raises ``InvalidInput`` with the engine's reason when the engine refuses the adapter.
        """
        ...

    async def unload_adapter(self, url: str, name: str) -> None:
        """Forget the adapter; one that is not there is no error."""
        ...

    async def load(self, url: str) -> EngineLoad:
        """What the engine does now. ``EngineFailed`` also where it was started without statistics."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...

"""The load of engines, as inference tells it to the scheduler."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineLoad:
    """What one engine does now.

    ``running`` and ``waiting``: requests. ``kv_cache_use``: part of its KV cache that is in use, 0 to 1.
    ``finished``: requests since its start.
    ``first_token_buckets``: times to the first token since its start, as (upper bound in seconds, requests up
    to it), the last bound infinite; empty where the engine has none.
    """

    running: int
    waiting: int
    kv_cache_use: float
    first_token_buckets: tuple[tuple[float, int], ...] = ()
    finished: int = 0


@dataclass(frozen=True)
class ReplicaLoad:
    """One engine that is ready, and the devices that it holds.

    ``id`` is another one after a restart. ``device_class``: vendor/model. ``millis``: thousandths of devices.
    ``load``: None where it did not tell.
    """

    id: str
    device_class: str
    millis: int
    load: EngineLoad | None

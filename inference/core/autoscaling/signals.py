"""What is seen of the engines of one role, and how many each sign of load asks for."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TIMES = 2.0
"""A queue, and first tokens that are late, say that more is needed, not how much: at most so many times."""
JUST_IN_TIME = 0.7
"""From this part of their target on first tokens are no reason for fewer engines."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What one engine should have at most: requests that run or wait there, requests that wait there, its KV
    cache in use (0 to 1), and the 95th percentile of first tokens (None = not looked at)."""

    requests: float = 32.0
    queued: float = 1.0
    kv_cache_use: float = 0.8
    ttft_ms: float | None = None


@dataclass(frozen=True, slots=True)
class RoleLoad:
    """What is seen of one role now.

    ``ready`` engines answer, of which ``telling`` tell their load: ``running`` and ``waiting`` requests and
    ``kv_caches_in_use`` are theirs together. ``held`` requests wait in gateways for an engine. ``is_active``:
    something was asked since the last look, or is on its way.
    """

    ready: int = 0
    telling: int = 0
    running: int = 0
    waiting: int = 0
    kv_caches_in_use: float = 0.0
    ttft_p95_ms: float | None = None
    held: int = 0
    is_active: bool = False

    @property
    def is_known(self) -> bool:
        """Whether all engines that answer tell their load. What does not is no sign of calm."""
        return self.telling == self.ready


@dataclass(frozen=True, slots=True)
class Signal:
    """``replicas`` is how many engines' work there is, by the sign called ``name``; ``text`` says why."""

    name: str
    replicas: float
    text: str


def signals_of(load: RoleLoad, targets: Targets) -> list[Signal]:
    """Those that say something, the one that asks for most first. Each grows with the load, and never falls.

    Engines that do not tell count as the others do.
    """
    scale = load.ready / load.telling if load.telling else 0.0
    requests = (load.running + load.waiting) * scale + load.held
    found = [
        Signal(
            "Requests",
            requests / targets.requests,
            f"{counted(requests, 'request')} for a target of {targets.requests:g} on each engine",
        )
    ]
    if load.telling:
        use = load.kv_caches_in_use / load.telling
        found.append(
            Signal(
                "KvCache",
                load.kv_caches_in_use * scale / targets.kv_cache_use,
                f"KV caches {use:.0%} in use for a target of {targets.kv_cache_use:.0%}",
            )
        )
    if load.telling and load.waiting > targets.queued * load.telling:
        times = min(MOST_TIMES, (load.running + load.waiting) / max(load.running, 1))
        found.append(
            Signal(
                "Queue",
                load.ready * times,
                f"{counted(load.waiting, 'request')} queued in {counted(load.telling, 'engine')} for a "
                f"target of {targets.queued:g} each",
            )
        )
    late = _first_token(load, targets)
    if late is not None:
        found.append(late)
    return sorted(found, key=lambda signal: -signal.replicas)


def _first_token(load: RoleLoad, targets: Targets) -> Signal | None:
    if load.ttft_p95_ms is None or targets.ttft_ms is None:
        return None
    part = load.ttft_p95_ms / targets.ttft_ms
    if part <= JUST_IN_TIME:
        return None
    return Signal(
        "FirstToken",
        load.ready * min(MOST_TIMES, max(1.0, part)),
        f"first tokens take {load.ttft_p95_ms:.0f} ms (95th percentile) for a target of "
        f"{targets.ttft_ms:g} ms",
    )


def counted(number: float, noun: str) -> str:
    """So many of them, in words."""
    return f"{number:.0f} {noun}" + ("" if round(number) == 1 else "s")

"""Brings the adapters that an engine holds in line with the Adapter resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.clock import Clock
from common.errors import InvalidInput
from common.guard import fault_of
from common.telemetry import get_logger
from inference.ports import Engines, LoadedModel

_CHECK_SECONDS = 15.0
_RETRY_SECONDS, _RETRY_MAX_SECONDS = 5.0, 300.0
LOADING_SECONDS = 1.0
"""Of one pass, for each engine; what is not loaded by then is so in the next passes, which come at once."""

_log = get_logger(__name__)


@dataclass(frozen=True)
class WantedAdapter:
    """An adapter that an engine should hold. ``key`` names the Adapter resource."""

    key: str
    name: str
    path: str


@dataclass(frozen=True)
class Failure:
    """Why an adapter is not held: ``reason`` for a condition, ``message`` for people."""

    reason: str
    message: str


@dataclass
class Held:
    """What one start of an engine was last seen to hold, and when to try again what failed."""

    seen_at_seconds: float = float("-inf")
    context_tokens: int | None = None
    paths: dict[str, str] = field(default_factory=dict)
    failures: dict[str, tuple[WantedAdapter, Failure]] = field(default_factory=dict)
    retries: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return sorted(self.paths)

    def is_settled(self, wanted: WantedAdapter) -> bool:
        """Whether the engine holds the adapter, or has refused it."""
        return self.paths.get(wanted.name) == wanted.path or wanted.name in self.failures

    def failure_of(self, wanted: WantedAdapter) -> Failure | None:
        """Why the adapter is not held, if it was tried."""
        known = self.failures.get(wanted.name)
        return known[1] if known else None


class AdapterSync:
    """Level-based: each pass compares what the engine lists with what is wanted; a restart gets all."""

    def __init__(self, engines: Engines, clock: Clock) -> None:
        self._engines, self._clock = engines, clock
        self._held: dict[tuple[str, int], Held] = {}

    async def sync(
        self, engine: tuple[str, int], url: str, wanted: Sequence[WantedAdapter], *, unload: bool = True
    ) -> Held:
        """Load what is missing and unload what is not wanted. ``engine`` is workload uid and attempt.

        Raises ``Unavailable`` or ``EngineFailed`` when the engine does not list its models. Failures of
        single adapters are in the result; they are tried again after a pause that grows.
        """
        held = self._held.setdefault(engine, Held())
        by_name = {adapter.name: adapter for adapter in wanted}
        if self._is_current(held, by_name, unload):
            return held
        await self._observe(held, url)
        for name in held.names:
            if name not in by_name and unload:
                await self._unload(held, url, name)
        await self._load(held, url, self._missing(held, wanted))
        for name in [name for name in held.failures if name not in by_name]:
            self._forget_failure(held, name)
        return held

    def forget_all_but(self, engines: set[tuple[str, int]]) -> None:
        """Drop what is known about starts of engines that are over."""
        self._held = {engine: held for engine, held in self._held.items() if engine in engines}

    def _is_current(self, held: Held, wanted: Mapping[str, WantedAdapter], unload: bool) -> bool:
        now = self._clock.monotonic_seconds()
        if now - held.seen_at_seconds >= _CHECK_SECONDS:
            return False
        superfluous = unload and held.paths.keys() - wanted.keys()
        return not superfluous and not self._missing(held, wanted.values())

    def _missing(self, held: Held, wanted: Iterable[WantedAdapter]) -> list[WantedAdapter]:
        return [w for w in wanted if held.paths.get(w.name) != w.path and self._may_try(held, w)]

    async def _observe(self, held: Held, url: str) -> None:
        models = await self._engines.loaded_models(url)
        held.paths = {model.name: model.path for model in models if model.base is not None}
        held.context_tokens = _context_tokens(models)
        held.seen_at_seconds = self._clock.monotonic_seconds()

    async def _load(self, held: Held, url: str, missing: Sequence[WantedAdapter]) -> None:
        """One after the other for as long as a pass may; then the engine's list says which of them it has."""
        began = self._clock.monotonic_seconds()
        loaded: list[tuple[WantedAdapter, float]] = []
        for adapter in missing:
            before = self._clock.monotonic_seconds()
            if before - began >= LOADING_SECONDS:
                break
            try:
                await self._engines.load_adapter(url, adapter.name, adapter.path)
            except Exception as error:  # noqa: BLE001 - one adapter's trouble is not the others'
                self._note_failure(held, adapter, _failure(error))
            else:
                loaded.append((adapter, self._clock.monotonic_seconds() - before))
        await self._confirm(held, url, loaded)

    async def _confirm(self, held: Held, url: str, loaded: Sequence[tuple[WantedAdapter, float]]) -> None:
        """Those of them that the engine lists are held."""
        listed: Failure | None = None
        try:
            if loaded:
                await self._observe(held, url)
        except Exception as error:  # noqa: BLE001 - what it held before it still holds
            listed = _failure(error)
        for adapter, seconds in loaded:
            if listed is None and held.paths.get(adapter.name) == adapter.path:
                self._forget_failure(held, adapter.name)
                load_ms = round(1000 * seconds, 1)
                _log.info("adapter loaded", adapter=adapter.name, engine=url, load_ms=load_ms)
            else:
                text = f"{url} does not list {adapter.name} after loading it"
                self._note_failure(held, adapter, listed or Failure("NotListed", text))

    async def _unload(self, held: Held, url: str, name: str) -> None:
        try:
            await self._engines.unload_adapter(url, name)
        except Exception as error:  # noqa: BLE001 - one adapter's trouble is not the others'
            _log.warning("adapter not unloaded", adapter=name, engine=url, error=fault_of(error).message)
            return
        held.paths.pop(name, None)
        _log.info("adapter unloaded", adapter=name, engine=url)

    def _note_failure(self, held: Held, adapter: WantedAdapter, failure: Failure) -> None:
        tries = held.retries.get(adapter.name, (0, 0.0))[0] + 1
        pause = min(_RETRY_SECONDS * 2 ** (tries - 1), _RETRY_MAX_SECONDS)
        held.retries[adapter.name] = (tries, self._clock.monotonic_seconds() + pause)
        held.failures[adapter.name] = (adapter, failure)
        _log.warning("adapter not loaded", adapter=adapter.name, reason=failure.reason, error=failure.message)

    def _forget_failure(self, held: Held, name: str) -> None:
        held.retries.pop(name, None)
        held.failures.pop(name, None)

    def _may_try(self, held: Held, adapter: WantedAdapter) -> bool:
        failed = held.failures.get(adapter.name)
        if failed is None or failed[0] != adapter:
            return True
        return self._clock.monotonic_seconds() >= held.retries[adapter.name][1]


def _failure(error: Exception) -> Failure:
    fault = fault_of(error)
    return Failure("LoadRefused" if isinstance(error, InvalidInput) else fault.reason, fault.message)


def _context_tokens(models: Sequence[LoadedModel]) -> int | None:
    return next((model.context_tokens for model in models if model.base is None), None)

"""Tells control what this gateway has waiting and at work for Endpoints that follow their load.

Control forgets it after a while, so it is told again and again; the first that waits is told at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

import aiohttp

from common.ids import new_id
from common.settings import Settings
from common.telemetry import get_logger
from common.wire import MAX_DEMANDS, Demand, DemandReport, Route
from inference.gateway.control_link.addresses import ControlAddresses

TELL_SECONDS = 2.0
LEAST_SECONDS = 0.2
"""Between two reports, however often somebody begins to wait."""
ASKED_SECONDS = 10.0
"""Who may not wait is told of for so long: control has looked by then."""
_ANSWER_SECONDS = 5.0
_NOTHING_TO_TELL = nullcontext()
_log = get_logger("gateway.demand")


@dataclass
class Held:
    """For which Endpoint a request waits."""

    names: tuple[str, ...] = ()


class DemandTeller:
    """``held`` and ``active`` count requests by Endpoint, as ``project/name``."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._control = ControlAddresses(settings)
        self._headers = {"Authorization": f"Bearer {settings.internal_token}"}
        self._session = session
        self._gateway = ""
        self._held: Counter[str] = Counter()
        self._active: Counter[str] = Counter()
        self._asked_until: dict[str, float] = {}
        self._news = asyncio.Event()
        self._told = False

    def working(self, route: Route) -> AbstractContextManager[None]:
        """While entered a request of the route is under way. Which Endpoint has it is known where there is
        one only; what engines tell counts anyway."""
        return self._at_work(route.elastic) if len(route.elastic) == 1 else _NOTHING_TO_TELL

    @contextmanager
    def _at_work(self, names: tuple[str, ...]) -> Iterator[None]:
        self._active.update(names)
        try:
            yield
        finally:
            _less(self._active, names)

    @contextmanager
    def holding(self, route: Route) -> Iterator[Held]:
        """While entered a request waits for an engine: of its Endpoint, an adapter's of the first that may
        have it. ``hold`` moves it to that of another table."""
        held = Held()
        try:
            self.hold(held, route)
            yield held
        finally:
            _less(self._held, held.names)

    def hold(self, held: Held, route: Route) -> None:
        """The request waits for what ``route`` says by now, and no more for what it has waited for."""
        names, before = route.elastic[:1], held.names
        if names == before:
            return
        if any(not self._held[name] for name in names):
            self._news.set()
        self._held.update(names)
        held.names = names
        _less(self._held, before)

    def ask(self, route: Route) -> None:
        """Somebody asked who may not wait: an engine is to come all the same, for when it is sent again."""
        now_seconds = asyncio.get_running_loop().time()
        for name in route.elastic[:1]:
            if not self._held[name] and name not in self._asked_until:
                self._news.set()
            self._asked_until[name] = now_seconds + ASKED_SECONDS

    def _asked(self) -> Collection[str]:
        """For which somebody asked lately who may not wait, in the order in which they did."""
        now_seconds = asyncio.get_running_loop().time()
        self._asked_until = {name: until for name, until in self._asked_until.items() if until > now_seconds}
        return self._asked_until.keys()

    def report(self) -> DemandReport:
        """All that there is to tell now; of very many Endpoints those for which somebody waits first."""
        self._gateway = self._gateway or new_id("gw")
        asked = self._asked()
        names = dict.fromkeys([*self._held, *asked, *self._active])
        demands = (
            Demand(endpoint=name, held=max(self._held[name], name in asked), active=self._active[name])
            for name in names
        )
        return DemandReport(gateway=self._gateway, demands=tuple(demands)[:MAX_DEMANDS])

    async def run(self) -> None:
        """Tell until cancelled. Where control is away, what waits goes on waiting."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self._news.wait()
            self._news.clear()
            try:
                await self.tell()
            except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad report must not end it
                _log.warning("control does not hear who waits", error=str(error) or type(error).__name__)
                await asyncio.sleep(TELL_SECONDS / 2)
            await asyncio.sleep(LEAST_SECONDS)

    async def tell(self) -> None:
        """Tell once, where there is something to tell or to take back. Raises aiohttp's errors."""
        if not (self._held or self._active or self._asked_until or self._told):
            return
        report = self.report()
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        with self._control.asking("/internal/v1/demand") as url:
            async with self._session.post(
                url, data=report.model_dump_json(), headers=_JSON | self._headers, timeout=timeout
            ) as response:
                response.raise_for_status()
        self._told = bool(report.demands)


_JSON = {"Content-Type": "application/json"}


def _less(counts: Counter[str], names: tuple[str, ...]) -> None:
    for name in names:
        counts[name] -= 1
        if counts[name] <= 0:
            del counts[name]

"""Keeps this process's leases of budgets: asks control for room, says what is used, and gives back the rest.

Requests take of the room at hand without asking. A request that finds too little waits for the next answer
of control, together with all others that do; so the first one after a while, and whoever needs more than a
small part of the budget at once, waits for one exchange with control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
from pydantic import ValidationError

from billing.core.budgets import Terms
from billing.core.leases import LEASE_SECONDS, Account
from common.clock import Clock
from common.errors import Unavailable
from common.ids import new_id
from common.settings import Settings
from common.telemetry import get_logger
from common.wire import MAX_LEASES, LeaseAnswer, LeaseAnswers, LeaseAsk, LeaseReport
from inference.gateway.budgets.predecessors import Predecessors
from inference.gateway.control_link.addresses import ControlAddresses

REPORT_SECONDS = 1.0
"""Between two reports of what has changed, where nobody waits."""
LEAST_SECONDS = 0.02
"""Between two reports, however many wait."""
RENEW_SECONDS = LEASE_SECONDS / 5
"""A lease of which something is open is renewed so often."""
IDLE_SECONDS = 5.0
"""Room of which nobody has taken for so long is given back."""
ANSWER_SECONDS = 2.0
"""The longest that a request waits for control."""
_log = get_logger("gateway.budgets")


@dataclass(eq=False)
class Share:
    """This process's part of one period of a budget."""

    terms: Terms
    period: str
    account: Account = field(default_factory=Account)
    waiting: list[int] = field(default_factory=list)
    """What requests wait for, each."""
    lent: int = 0
    """Room after the last answer: where half of it is gone, more is asked for."""
    spent: int = 0
    others: int = 0
    """What the period had come to at the last answer, and what other processes held of it."""
    told_at: float = float("-inf")
    changed: bool = False


class LeaseKeeper:
    """The shares of this process. ``posted_before`` tells before which moment all usage is posted."""

    def __init__(
        self,
        settings: Settings,
        session: aiohttp.ClientSession,
        clock: Clock,
        posted_before: Callable[[], float],
        predecessors: Predecessors,
    ) -> None:
        self._control = ControlAddresses(settings)
        self._headers = {
            "Authorization": f"Bearer {settings.internal_token}",
            "Content-Type": "application/json",
        }
        self._session = session
        self._clock = clock
        self._posted_before = posted_before
        self._predecessors = predecessors
        self._holder = ""
        self._sequence = 0
        self._shares: dict[tuple[str, str], Share] = {}
        self._news = asyncio.Event()
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def share(self, terms: Terms, period: str) -> Share:
        """The share of that period; its terms are those of the newest table."""
        found = self._shares.get((terms.id, period))
        if found is None:
            found = self._shares[terms.id, period] = Share(terms, period)
        found.terms = terms
        return found

    def hold(self, share: Share, amount: int) -> bool:
        """Take ``amount`` of the share's room; False where there is too little."""
        now = self._clock.monotonic_seconds()
        if not share.account.hold(amount, now):
            return False
        share.changed = True
        if 2 * share.account.room(now) < share.lent:
            self._news.set()
        return True

    def settle(self, share: Share, held: int, used: int) -> None:
        """Of what was held so much is used; once for each hold."""
        share.account.settle(held, used, self._clock.monotonic_seconds())
        share.changed = True

    async def more(self, wanted: Sequence[tuple[Share, int]]) -> None:
        """Return when control has answered who asked for these amounts. Raises ``Unavailable`` where it does
        not."""
        for share, amount in wanted:
            share.waiting.append(amount)
        self._news.set()
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                await asyncio.shield(self._answer)
        except TimeoutError:
            raise _not_reached() from None
        finally:
            for share, amount in wanted:
                share.waiting.remove(amount)

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._news.wait()
            self._news.clear()
            await self.step()
            await asyncio.sleep(LEAST_SECONDS)

    async def step(self) -> None:
        """Report once, where there is something to report; whoever waits by now is answered."""
        answer, self._answer = self._answer, asyncio.get_running_loop().create_future()
        try:
            await self._report()
        except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad report must not end it
            _log.warning("control was not asked about budgets", error=str(error) or type(error).__name__)
            answer.set_exception(_not_reached())
            answer.exception()  # nobody may wait
            await asyncio.sleep(REPORT_SECONDS / 2)
        else:
            answer.set_result(None)

    async def close(self) -> None:
        """Give everything back, where control is there."""
        for share in self._shares.values():
            share.account.used_at, share.changed = float("-inf"), True
        with suppress(aiohttp.ClientError, OSError, ValidationError, TimeoutError):
            await self._report()

    async def _report(self) -> None:
        now = self._clock.monotonic_seconds()
        shares = self._to_report(now)
        ended = self._predecessors.ended(self._posted_before())
        if not shares and not ended:
            return
        self._holder = self._holder or new_id("gw", self._clock)
        self._sequence += 1
        report = LeaseReport(
            holder=self._holder,
            sequence=self._sequence,
            leases=tuple(_ask(share, now) for share in shares),
            ended=ended,
        )
        for asked in report.leases:
            self._shares[asked.budget, asked.period].changed = False
        try:
            await asyncio.to_thread(self._predecessors.begin, self._holder)
            answers = await self._post(report)
        except BaseException:
            for share in shares:
                share.changed = True
            raise
        for answer in answers.leases:
            self._take(answer, now)
        await asyncio.to_thread(self._predecessors.told, ended)

    def _to_report(self, now: float) -> list[Share]:
        """Those of which there is something to say, first those that requests wait for."""
        before = self._posted_before()
        for place, share in list(self._shares.items()):
            account = share.account
            firm = account.firm
            account.posted(before)
            share.changed |= account.firm != firm
            if account.is_empty and not share.waiting and account.used_at + IDLE_SECONDS < now:
                if not share.changed:
                    del self._shares[place]
                continue
        wanted = [
            share
            for share in self._shares.values()
            if share.waiting
            or share.changed
            or share.told_at + RENEW_SECONDS < now
            or (share.account.used_at + IDLE_SECONDS < now and not share.account.is_empty)
        ]
        return sorted(wanted, key=lambda share: (not share.waiting, share.told_at))[:MAX_LEASES]

    async def _post(self, report: LeaseReport) -> LeaseAnswers:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        with self._control.asking("/internal/v1/budget-leases") as url:
            async with self._session.post(
                url, data=report.model_dump_json(), headers=self._headers, timeout=timeout
            ) as response:
                response.raise_for_status()
                return LeaseAnswers.model_validate_json(await response.read())

    def _take(self, answer: LeaseAnswer, asked_at: float) -> None:
        share = self._shares.get((answer.budget, answer.period))
        if share is None:
            return
        share.account.changed(answer.change, asked_at)
        share.spent, share.others, share.told_at = answer.spent, answer.held, asked_at
        share.lent = share.account.room(asked_at)


def _ask(share: Share, now: float) -> LeaseAsk:
    active = bool(share.waiting) or share.account.used_at + IDLE_SECONDS >= now
    firm, room = share.account.to_report(now, keep=active)
    return LeaseAsk(
        budget=share.terms.id,
        period=share.period,
        firm=firm,
        room=room,
        needed=sum(share.waiting),
        active=active,
        least=min(share.waiting, default=0),
    )


def _not_reached() -> Unavailable:
    return Unavailable(
        "this request is within a budget, and control, which says what is left of it, does not answer; try "
        "again later",
        code="budget_unknown",
    )

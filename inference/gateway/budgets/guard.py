"""Whether a request fits into all hard budgets that its use counts against: it holds what it may cost at most
of each, or of none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from billing.core.budgets import Terms
from billing.core.ceilings import Ceiling, Doer
from common.clock import Clock, rfc3339
from common.errors import BudgetSpent, BudgetTold
from common.wire import Route
from inference.core.body import InferenceRequest
from inference.core.usage import TokenCounts
from inference.gateway import metrics
from inference.gateway.budgets.keeper import LeaseKeeper, Share
from inference.gateway.budgets.worst_case import Most, most_of
from inference.gateway.control_link.table import RouteIndex
from inference.gateway.one_door.candidates import doers_of

ROUNDS = 3
"""So often control is asked for one request: others may take what was granted for it."""
RETRY_AFTER_SECONDS = 2
REFUSED_SECONDS = 0.5
"""So long a refusal holds for requests that need as much, without another question to control."""
_QUARTER_HOUR_MS = 900_000
"""Calendar days of all time zones begin with a quarter of an hour of UTC."""
_REMEMBERED = 4096


@dataclass(frozen=True)
class Hold:
    """What a request holds of a share."""

    share: Share
    amount: int


@dataclass(frozen=True)
class Held:
    """All that a request holds. To be settled once, when its usage is spooled."""

    keeper: LeaseKeeper
    holds: Sequence[Hold]
    ceiling: Ceiling

    def settle(self, counts: TokenCounts) -> None:
        """The request has ended, and so many tokens of it are billed."""
        tokens = counts.prompt + counts.completion
        cost = self.ceiling.amount(counts.prompt, counts.cached, counts.completion)
        for hold in self.holds:
            used = tokens if hold.share.terms.unit == "tokens" else cost
            if used > hold.amount:
                metrics.BUDGET_OVERAGE.labels(hold.share.terms.unit).inc(used - hold.amount)
            self.keeper.settle(hold.share, hold.amount, used)


@dataclass(frozen=True)
class Asking:
    """What of a request its budgets go by. ``key`` is the name of its API key, ``at_ms`` when it was
    admitted."""

    request: InferenceRequest
    route: Route
    tenant: str
    project: str
    key: str
    at_ms: int


class BudgetGuard:
    """The budgets of this process's requests."""

    def __init__(self, keeper: LeaseKeeper, clock: Clock) -> None:
        self._keeper = keeper
        self._clock = clock
        self._periods: dict[tuple[str, int], str] = {}
        self._refused: WeakKeyDictionary[Share, tuple[float, int]] = WeakKeyDictionary()
        self._doers: dict[int, tuple[Route, frozenset[Doer]]] = {}

    async def admit(self, index: RouteIndex, asking: Asking) -> Held | None:
        """Hold what the request may cost; None where no budget is concerned. Raises ``BudgetSpent`` where one
        has too little left, ``Unavailable`` where control has to be asked and does not answer."""
        request = asking.request
        found = list(
            index.budgets.of(asking.tenant, asking.project, asking.key, request.user, request.tags)
            if index.budgets is not None
            else ()
        )
        budgets = [terms for terms in found if terms.in_force(asking.at_ms)]
        if not budgets:
            return None
        ceiling = index.ceilings.of(
            asking.tenant, asking.route.adapter_identity, self._doers_of(asking.route), asking.at_ms
        )
        most = most_of(request, asking.route.context_tokens)
        holds = [
            Hold(self._keeper.share(terms, self._period(terms, asking.at_ms)), _amount(terms, most, ceiling))
            for terms in budgets
        ]
        await self._take(holds, asking)
        return Held(self._keeper, holds, ceiling)

    async def _take(self, holds: Sequence[Hold], asking: Asking) -> None:
        short = self._try(holds)
        for _ in range(ROUNDS):
            if not short or any(self._was_refused(hold) for hold in short):
                break
            await self._keeper.more([(hold.share, hold.amount) for hold in short])
            short = self._try(holds)
        if short:
            worst = next((hold for hold in short if self._was_refused(hold)), short[0])
            error = self._refusal(worst, asking)
            if not self._was_refused(worst):
                self._refused[worst.share] = self._clock.monotonic_seconds(), worst.amount
            metrics.BUDGET_REFUSED.labels("soon" if error.passes_soon else "spent").inc()
            raise error

    def _was_refused(self, hold: Hold) -> bool:
        """Whether control has just said that there is not as much: it is not asked again for each request."""
        at, amount = self._refused.get(hold.share, (float("-inf"), 0))
        return hold.amount >= amount and self._clock.monotonic_seconds() - at < REFUSED_SECONDS

    def _try(self, holds: Sequence[Hold]) -> list[Hold]:
        """Take all, or none and return those that do not fit."""
        short = [hold for hold in holds if not self._keeper.hold(hold.share, hold.amount)]
        if short:
            for hold in holds:
                if hold not in short:
                    self._keeper.settle(hold.share, hold.amount, 0)
        return short

    def _refusal(self, hold: Hold, asking: Asking) -> BudgetSpent:
        terms, share = hold.share.terms, hold.share
        resets_ms = terms.resets_ms(asking.at_ms)
        told = BudgetTold(
            name=terms.name,
            unit=terms.unit,
            limit=terms.limit,
            spent=share.spent,
            held=min(share.others + share.account.firm, max(0, terms.limit - share.spent)),
            needs=hold.amount,
            period=share.period,
            resets=rfc3339(resets_ms) if resets_ms is not None else None,
        )
        soon = hold.amount <= terms.limit - share.spent
        wait_ms = 0 if resets_ms is None else max(0, resets_ms - asking.at_ms)
        return BudgetSpent(
            _words(told, soon),
            retry_after_seconds=RETRY_AFTER_SECONDS if soon else max(1, -(-wait_ms // 1000)),
            budget=told,
            passes_soon=soon,
        )

    def _period(self, terms: Terms, at_ms: int) -> str:
        place = terms.id, at_ms // _QUARTER_HOUR_MS
        period = self._periods.get(place)
        if period is None:
            if len(self._periods) >= _REMEMBERED:
                self._periods.clear()
            period = self._periods[place] = terms.period_at(at_ms)
        return period

    def _doers_of(self, route: Route) -> frozenset[Doer]:
        known = self._doers.get(id(route))
        if known is None or known[0] is not route:
            if len(self._doers) >= _REMEMBERED:
                self._doers.clear()
            known = self._doers[id(route)] = route, doers_of(route)
        return known[1]


def _amount(terms: Terms, most: Most, ceiling: Ceiling) -> int:
    return sum(most) if terms.unit == "tokens" else ceiling.most(*most)


def _words(told: BudgetTold, soon: bool) -> str:
    unit = "tokens" if told.unit == "tokens" else "micro-credits"
    left = max(0, told.limit - told.spent)
    what = f"the budget {told.name} has {told.limit} {unit} for {told.period}: {told.spent} are spent"
    need = f"this request may take up to {told.needs}"
    if soon:
        return (
            f"{what}, {told.held} are held by requests that run, and {need}; try again when some have ended"
        )
    until = f"; it begins anew at {told.resets}" if told.resets else ""
    if not left:
        return f"{what}, and nothing is left{until}"
    return f"{what}, {left} are left, and {need}; ask for fewer with max_tokens{until}"

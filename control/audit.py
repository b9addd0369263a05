"""What is written to the audit log: every write that was done, and refusals up to a number; the rest of those
are counted, so that nobody's refusals fill the log or keep the store busy."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter

from common.clock import Clock
from common.ids import new_id
from common.store.port import AuditEntry, Store

REFUSALS_PER_MINUTE = 60
"""So many refusals of one key within a minute stand in the log one by one; of strangers none does."""
ANONYMOUS = "anonymous"
COUNTED = "COUNTED"
"""The action of an entry that stands for several refusals."""
MINUTE_MS = 60_000

REFUSED = Counter("computility_control_refused", "Requests that were refused", ("caller", "code"))


@dataclass
class _Minute:
    """Refusals of one principal within the running minute."""

    tenant: str
    outcome: str
    kept: int = 0
    counted: int = 0


class AuditTrail:
    """The one writer of the audit log."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._minute = 0
        self._refusals: dict[tuple[str, str], _Minute] = {}

    async def keep(self, principal: str, action: str, target: str, outcome: str, tenant: str = "") -> None:
        """Keep an entry about a request that was done."""
        now_ms = self._clock.now_ms()
        id_ = new_id("aud", self._clock)
        await self._store.audit(AuditEntry(id_, now_ms, principal, action, target, outcome, tenant))

    async def refuse(self, principal: str, action: str, target: str, outcome: str, tenant: str = "") -> None:
        """Keep an entry about a request that was refused, or count it."""
        stranger = principal == ANONYMOUS
        REFUSED.labels(ANONYMOUS if stranger else "key", outcome).inc()
        minute = self._clock.now_ms() // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            await self.settle()
        known = self._refusals.setdefault((tenant, principal), _Minute(tenant, outcome))
        if stranger or known.kept >= REFUSALS_PER_MINUTE:
            known.counted += 1
            known.outcome = outcome
            return
        known.kept += 1
        await self.keep(principal, action, target, outcome, tenant)

    async def settle(self) -> None:
        """Write down what was counted so far: one entry for each principal."""
        refusals, self._refusals = self._refusals, {}
        for (tenant, principal), found in refusals.items():
            if found.counted:
                target = f"{found.counted} refused requests"
                await self.keep(principal, COUNTED, target, found.outcome, tenant)

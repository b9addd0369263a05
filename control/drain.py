"""Stopping everything that runs on the nodes, for good: what ``down`` does before Ray ends."""

from __future__ import annotations

import asyncio

from billing.core.sink import UsageSink
from common.clock import Clock
from common.errors import Conflict, NotFound
from common.guard import fault_of
from common.telemetry import get_logger
from control.loops import Loops
from scheduler.metering import DeviceMeter
from scheduler.ports import Fabric, RejectedSink
from scheduler.translate.observed import Observed

POLL_SECONDS = 0.25
LOOPS_SECONDS = 5.0
_log = get_logger("control.drain")


class Drain:
    """Stops the loops, so that nothing is started again, and then all gangs. Their device time is metered to
    the end. Calling it again goes on where it was."""

    def __init__(
        self,
        loops: Loops,
        fabric: Fabric,
        usage: UsageSink,
        rejected: RejectedSink,
        clock: Clock,
        grace_seconds: float,
    ) -> None:
        self._loops = loops
        self._fabric = fabric
        self._meter = DeviceMeter(fabric, usage, rejected, clock)
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._running = asyncio.Lock()

    async def __call__(self, timeout_seconds: float, dismiss_agents: bool = False) -> list[str]:
        """The uids of the gangs that still run when the time is over; empty when none does.

        With ``dismiss_agents`` the nodes' agents end then too, and nothing of the instance stays in Ray.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_seconds
        async with self._running:
            await self._loops.stop(LOOPS_SECONDS)
            while True:
                left = await self._pass()
                if not left or clock() >= deadline:
                    break
                await asyncio.sleep(POLL_SECONDS)
            if dismiss_agents:
                await self._fabric.dismiss_agents()
            return left

    async def _pass(self) -> list[str]:
        """Stop what runs, meter what has ended and forget it. Returns the gangs that are alive."""
        observed = Observed(await self._fabric.nodes())
        await self._meter.meter(observed, self._clock.now_ms())
        left = []
        for node, gang in observed.gangs():
            try:
                if gang.alive:
                    left.append(gang.uid)
                    if not gang.stopping:
                        await self._fabric.stop_gang(node.name, gang.uid, gang.attempt, self._grace_seconds)
                elif self._meter.is_settled(node.name, gang):
                    await self._fabric.forget_gang(node.name, gang.uid, gang.attempt)
            except (Conflict, NotFound) as error:
                _log.debug("gang changed meanwhile", uid=gang.uid, error=error.message)
            except Exception as error:  # noqa: BLE001 - one gang's trouble is not the others'
                _log.warning("gang not stopped", uid=gang.uid, node=node.name, error=fault_of(error).message)
        return sorted(set(left))

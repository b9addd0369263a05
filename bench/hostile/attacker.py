"""The attackers' process: ``python -m bench.hostile.attacker SECONDS SEED``, with the target as JSON on
standard input; prints what came back as JSON."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

import aiohttp

from bench.hostile.attacks import ANSWER_SECONDS, ATTACKS, Attack, Attacker
from bench.hostile.world import Target
from common.niceness import NICEST, give_way


async def attack(target: Target, seconds: float, seed: int) -> Attacker:
    """Try everything in ``ATTACKS`` until the time is over."""
    dice = random.Random(seed)
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        me = Attacker(target, session, dice)
        ends = time.monotonic() + seconds
        actors = [
            asyncio.create_task(_repeat(me, what, pause, ends))
            for what, (count, pause) in ATTACKS.items()
            for _ in range(count)
        ]
        await asyncio.wait(actors, timeout=seconds + ANSWER_SECONDS)
        failed = [task.exception() for task in actors if task.done() and not task.cancelled()]
        for task in actors:
            task.cancel()
        await asyncio.gather(*actors, return_exceptions=True)
    for error in filter(None, failed):
        raise error
    return me


async def _repeat(me: Attacker, what: Attack, pause_seconds: float, ends: float) -> None:
    while time.monotonic() < ends:
        await asyncio.sleep(me.dice.expovariate(1 / pause_seconds))
        await what(me)


def main() -> None:
    """Attack, then tell. Attackers would sit on machines of their own; here they take only what the platform
    leaves."""
    give_way(NICEST)
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    me = asyncio.run(attack(Target(**json.load(sys.stdin)), seconds, seed))
    json.dump(
        {
            "answers": dict(sorted(me.answers.items())),
            "server_errors": dict(me.server_errors.most_common(20)),
            "foreign_names": dict(me.foreign_names),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()

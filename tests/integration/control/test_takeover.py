"""Two control processes on PostgreSQL: the one that leads is killed, stopped and told to end while gangs are
submitted, and the other takes its place. `COMPUTILITY_TEST_TAKEOVERS=20` kills it so often; `bench.takeover`
tells the times."""

import os
import signal
from pathlib import Path

import pytest

from tests.fixtures.takeover import running_pair

KILLS = int(os.environ.get("COMPUTILITY_TEST_TAKEOVERS", "3"))
TAKEOVER_SECONDS = 15.0
pytestmark = [pytest.mark.integration, pytest.mark.postgres, pytest.mark.timeout(300 + 60 * KILLS)]


async def test_another_takes_over_and_nothing_is_lost_or_done_twice(
    tmp_path: Path, postgres_url: str
) -> None:
    async with running_pair(tmp_path, postgres_url) as pair:
        for _ in range(KILLS):
            number = await pair.leader()
            taken = await pair.take_over()
            assert taken.write_seconds < TAKEOVER_SECONDS
            await pair.start(number)
            assert await pair.leader() == 1 - number
            assert await pair.check() > 0

        # One that is stopped, and wakes when another leads: it writes nothing more, and ends.
        number = await pair.leader()
        assert (await pair.take_over(signal.SIGSTOP)).write_seconds < TAKEOVER_SECONDS
        pair.send(number, signal.SIGCONT)
        process = pair.children[number].process
        assert process is not None
        assert process.wait(20) == 6, pair.children[number].log_tail(40)
        pair.children[number].poll()
        await pair.start(number)
        assert await pair.check() > 0

        # One that ends in order gives the lease back: nobody waits for its end.
        number = await pair.leader()
        taken = await pair.take_over(signal.SIGTERM)
        assert taken.write_seconds < TAKEOVER_SECONDS / 2
        await pair.start(number)
        await pair.check()
        assert pair.counts()["PUT"] > 2 * KILLS

"""What every keeper of the outcomes of batches' lines must do: the same tests on memory, SQLite and
PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.db import Database
from common.store.batch_lines import BatchLines, LineOutcome, MemoryBatchLines, SqlBatchLines, Totals


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def lines(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BatchLines]:
    if request.param == "memory":
        yield MemoryBatchLines()
        return
    sqlite_url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    database = Database(
        request.getfixturevalue("postgres_url") if request.param == "postgres" else sqlite_url
    )
    await database.migrate()
    yield SqlBatchLines(database)
    await database.close()


def good(line: int, content: str = "{}", event: str = "") -> LineOutcome:
    return LineOutcome(line, True, content, event, prompt_tokens=3, cached_tokens=1, completion_tokens=2)


async def test_the_first_outcome_of_a_line_stands(lines: BatchLines) -> None:
    await lines.keep("b", "p", [good(1, '{"n":1}', "e1"), LineOutcome(2, False, '{"n":2}')])
    await lines.keep("b", "p", [good(2, '{"n":"other"}', "e2"), good(3, '{"n":3}')])
    assert await lines.done("b") == {1, 2, 3}
    kept = [(one.line, one.is_good, one.content) async for one in lines.all_of("b")]
    assert kept == [(1, True, '{"n":1}'), (2, False, '{"n":2}'), (3, True, '{"n":3}')]
    assert await lines.totals("b") == Totals(2, 1, 6, 2, 4)
    assert await lines.totals("nobody") == Totals()


async def test_events_wait_until_they_are_posted(lines: BatchLines) -> None:
    await lines.keep("b", "p", [good(1, event="e1"), good(2), good(3, event="e3"), good(4, event="e4")])
    await lines.keep("c", "p", [good(1, event="other")])
    assert await lines.unposted("b", 2) == {1: "e1", 3: "e3"}
    await lines.posted("b", [1, 3])
    assert await lines.unposted("b", 2) == {4: "e4"}
    assert await lines.unposted("c", 9) == {1: "other"}


async def test_many_come_back_in_order_and_go_together(lines: BatchLines) -> None:
    await lines.keep("b", "p", [good(number, f'"{number}"') for number in range(1, 451)])
    await lines.keep("c", "q", [good(1, '"ü\\u0000"')])
    assert [one.line async for one in lines.all_of("b")] == list(range(1, 451))
    assert list(await lines.batches()) == ["b", "c"]
    assert set(await lines.held_bytes()) == {"p", "q"}
    await lines.forget("b")
    assert await lines.done("b") == set()
    assert list(await lines.batches()) == ["c"]

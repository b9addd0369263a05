"""Many rows in one statement: what goes in is what comes out, whatever the texts hold."""

import random

import pytest
import sqlalchemy as sa

from billing.store import bulk
from billing.store.schema import journal
from common.db import Database
from common.errors import InvalidInput

ODD = [
    "",
    "a",
    "\x1f",
    "\x1e",
    "a\x1fb",
    "x\x1e",
    "NULL",
    "null",
    '"',
    "\\",
    "\\x1f",
    "{}",
    "{a,b}",
    "'",
    "\n",
    "界",
    "$1",
]


@pytest.mark.parametrize("texts", [ODD, [text for text in ODD if "\x1f" not in text and text != "\x1e"]])
async def test_rows_come_out_as_they_went_in(database: Database, texts: list[str]) -> None:
    chance = random.Random(1)
    for count in (1, 9, 40):
        rows = {
            (f"{count}-{number}", chance.choice(texts), chance.choice([0, -(2**63), 2**63 - 1]), *more)
            for number in range(count)
            for more in [(chance.choice(texts), chance.choice(texts))]
        }
        async with database.write() as connection:
            await bulk.insert(connection, journal, sorted(rows))
            query = sa.select(journal).where(journal.c.event_id.like(f"{count}-%"))
            assert {tuple(row) for row in await connection.execute(query)} == rows


async def test_the_database_says_which_are_new(database: Database) -> None:
    rows = [(f"{number}{odd}", "usage", 1, "", "[]") for number in range(20) for odd in ("", '"', "\\")]
    async with database.write() as connection:
        await bulk.insert(connection, journal, rows[::3])
        assert await bulk.insert_new(connection, journal, rows) == {row[0] for row in rows} - {
            row[0] for row in rows[::3]
        }
        assert await bulk.insert_new(connection, journal, rows[1:30]) == set()


@pytest.mark.parametrize("count", [1, 20])
async def test_a_number_that_does_not_fit_is_refused(database: Database, count: int) -> None:
    rows = [(str(number), "usage", 2**63, "", "[]") for number in range(count)]
    with pytest.raises(InvalidInput):
        async with database.write() as connection:
            await bulk.insert(connection, journal, rows)

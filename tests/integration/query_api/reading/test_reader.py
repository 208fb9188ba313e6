"""Statements that queue for a connection: the same ones become one, and whoever leaves takes nobody's rows along."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from chassis.http.problems import Problem
from chassis.settings import PostgresAddress
from query_api.reading.database import ReadDatabase
from query_api.reading.reader import Reader
from tests.integration.query_api.read_side import ReadSide

COUNTER = "SELECT nextval('counter') AS number, $1::int[] AS given"


@pytest.fixture
async def database(query_database: PostgresAddress, read_side: ReadSide) -> AsyncIterator[ReadDatabase]:
    """A pool of one, over a counter that every execution moves."""
    await read_side.connection.execute("CREATE SEQUENCE counter")
    address = replace(query_database, pool_size=1, max_overflow=0)
    async with ReadDatabase.open(address, application="reading") as opened:
        yield opened


@pytest.fixture
def reader(database: ReadDatabase) -> Reader:
    return Reader(database, statement_ms=2000, generation_gone=lambda: None)


async def test_one_after_the_other_each_is_read_anew(reader: Reader) -> None:
    assert [(await reader.fetch(COUNTER, [[1]]))[0]["number"] for _ in range(3)] == [1, 2, 3]


async def test_those_that_queue_with_the_same_values_become_one(database: ReadDatabase, reader: Reader) -> None:
    held = await database.lending.lend()
    asked = [asyncio.ensure_future(reader.fetch(COUNTER, [[number % 2]])) for number in range(20)]
    await asyncio.sleep(0)
    database.lending.give_back(held)
    answers = [rows[0] for rows in await asyncio.gather(*asked)]

    assert {(row["number"], tuple(row["given"])) for row in answers} in ({(1, (0,)), (2, (1,))}, {(2, (0,)), (1, (1,))})
    assert [row["given"] for row in answers] == [[number % 2] for number in range(20)]


async def test_one_that_is_asked_after_the_sending_is_read_anew(database: ReadDatabase, reader: Reader) -> None:
    slow = "SELECT nextval('counter') AS number, pg_sleep(0.1)"
    held = await database.lending.lend()
    first = asyncio.ensure_future(reader.fetch(slow, []))
    await asyncio.sleep(0)
    database.lending.give_back(held)
    await asyncio.sleep(0)
    second = asyncio.ensure_future(reader.fetch(slow, []))

    assert ((await first)[0]["number"], (await second)[0]["number"]) == (1, 2)


async def test_when_the_first_leaves_the_queue_the_others_still_share(database: ReadDatabase, reader: Reader) -> None:
    held = await database.lending.lend()
    asked = [asyncio.ensure_future(reader.fetch(COUNTER, [[1]])) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    database.lending.give_back(held)

    assert [rows[0]["number"] for rows in await asyncio.gather(*asked[1:])] == [1, 1]


async def test_one_of_many_leaves_and_the_others_still_share(database: ReadDatabase, reader: Reader) -> None:
    held = await database.lending.lend()
    asked = [asyncio.ensure_future(reader.fetch(COUNTER, [[1]])) for _ in range(3)]
    await asyncio.sleep(0)
    asked[1].cancel()
    database.lending.give_back(held)

    assert [(await asked[number])[0]["number"] for number in (0, 2)] == [1, 1]


async def test_a_failure_is_told_to_all_and_kept_by_none(database: ReadDatabase, reader: Reader) -> None:
    held = await database.lending.lend()
    asked = [asyncio.ensure_future(reader.fetch("SELECT 1/0", [])) for _ in range(3)]
    await asyncio.sleep(0)
    database.lending.give_back(held)

    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(failure) for failure in failures] == [asyncpg.DivisionByZeroError] * 3
    assert (await reader.fetch(COUNTER, [[1]]))[0]["number"] == 1


async def test_tables_that_have_gone_are_told_of_and_answered_503(database: ReadDatabase) -> None:
    told: list[bool] = []
    reader = Reader(database, statement_ms=2000, generation_gone=lambda: told.append(True))

    with pytest.raises(Problem) as raised:
        await reader.fetch("SELECT FROM users_g999", [])

    assert (raised.value.type.status, told) == (503, [True])

"""Pages that are asked for at once: one statement reads them all, and each is the one that it is alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chassis.settings import PostgresAddress
from query_api.protocol.cursors import CursorSeal
from query_api.protocol.pagination import Page
from query_api.reading.database import FetchedRows, ReadDatabase
from query_api.reading.reader import Reader
from query_api.users.filters import SORTS, Filters
from query_api.users.page_reads import BATCH_PAGES, PageReads
from query_api.users.places import PagePlace, open_cursor
from tests.integration.query_api.read_side import START, ReadSide, moved, person, shuffled

NAMES = ("ann", "Ärger", "zoë", "Żuk", "李雷", "ann2")


class CountingReader(Reader):
    """Counts statements."""

    statements = 0

    async def fetch(self, sql: str, arguments: Sequence[Any], *, plan_each_time: bool = False) -> FetchedRows:
        self.statements += 1
        return await super().fetch(sql, arguments, plan_each_time=plan_each_time)


@pytest.fixture
async def reader(query_database: PostgresAddress) -> AsyncIterator[CountingReader]:
    address = replace(query_database, pool_size=4, max_overflow=0)
    async with ReadDatabase.open(address, application="pages") as database:
        yield CountingReader(database, statement_ms=2000, generation_gone=lambda: None)


@pytest.fixture
def seal() -> CursorSeal:
    return CursorSeal({"k1": bytes(32)})


def without_cursor(page: Page) -> tuple[bytes, bool]:
    """What does not differ from one sealing to the next."""
    return page.body.partition(b'],"next_cursor"')[0], page.next_cursor is None


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("filters", [{}, {"status": "active"}])
async def test_together_each_is_what_it_is_alone(
    reader: CountingReader, seal: CursorSeal, read_side: ReadSide, sort: str, filters: Filters
) -> None:
    people = [
        person(number, username=f"{name}{number}", status="deactivated" if number % 3 else "active")
        for number, name in enumerate(NAMES * 3)
    ]
    await read_side.register(*shuffled(people))
    await read_side.apply(
        *(moved(user, f"{user.username}@example.com", at=START + timedelta(days=1)) for user in people[::4])
    )
    pages, limit = PageReads(reader, seal), 2

    async def read(place: PagePlace) -> Page:
        page = await pages.read_page(1, place, limit=limit)
        assert page
        return page

    places = []
    alone = [await read(PagePlace(sort, filters, b""))]
    while alone[-1].next_cursor:
        places.append(open_cursor(alone[-1].next_cursor, seal))
        alone.append(await read(places[-1]))
    before = reader.statements

    together = await asyncio.gather(*(read(place) for place in places * 2))

    assert reader.statements - before <= -(-2 * len(places) // BATCH_PAGES)
    assert [without_cursor(page) for page in together] == [without_cursor(page) for page in alone[1:]] * 2
    shown = b",".join(page.body.partition(b'"data":[')[2].partition(b'],"next_cursor"')[0] for page in alone)
    assert shown.count(b'"username"') == (len(people) if not filters else len(people[::3]))


async def test_a_first_page_that_all_ask_for_is_read_once(
    reader: CountingReader, seal: CursorSeal, read_side: ReadSide
) -> None:
    await read_side.register(*(person(number) for number in range(5)))
    pages, first = PageReads(reader, seal), PagePlace("-created_at", {}, b"")

    answers = await asyncio.gather(*(pages.read_page(1, first, limit=2) for _ in range(100)))

    assert reader.statements == 1
    assert answers[0]
    assert all(page is answers[0] for page in answers)
    assert answers[0].body.count(b'"username"') == 2

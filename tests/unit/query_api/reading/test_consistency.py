"""How often a request that waits for a version reads."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.access.guard import Access, enter
from chassis.consistency import ConsistencyToken
from query_api.protocol.exchange import QueryExchange
from query_api.reading.consistency import ConsistentReads
from query_api.reading.serving import Serving, View
from query_api.reading.versions import WantedVersions
from query_api.reading.waiters import Waiters
from tests.waiting import until

ANN = uuid4()
VIEW = View(1, 1, serves=True, seen_until=datetime(2026, 1, 1, tzinfo=UTC), as_of=b"")


class Views(Serving):
    """One generation, which nobody has to read about."""

    def __init__(self) -> None:
        pass

    def view(self, projection: str) -> View:
        del projection
        return VIEW


class Table:
    """Ann's version, how often it was read, and what happens while it is read."""

    def __init__(self) -> None:
        self.version, self.reads = 1, 0
        self.meanwhile: Callable[[], object] = lambda: None

    async def read(self, view: View, wanted: WantedVersions) -> int | None:
        del view
        self.reads += 1
        version = self.version
        self.meanwhile()
        return version if version >= wanted[ANN] else None

    async def read_reached(self, projection: str, wanted: WantedVersions) -> Iterable[tuple[UUID, int]]:
        raise AssertionError(f"{projection} is not polled while it is notified of, for {wanted}")


async def never() -> Any:
    await asyncio.Event().wait()


def request(version: int) -> QueryExchange:
    headers = [
        (b"consistency-token", ConsistencyToken(ANN, version).encode().encode()),
        (b"prefer", b"wait=10"),
    ]
    scope = {"type": "http", "headers": headers}
    enter(scope, Access(None))
    return QueryExchange(scope, never)


@pytest.fixture
async def waiters() -> AsyncIterator[Waiters]:
    async with Waiters.open(Table().read_reached, limit=1, notified=lambda: True) as opened:
        yield opened


async def test_a_request_that_is_early_reads_again_only_once_it_is_woken(waiters: Waiters) -> None:
    table = Table()
    asked = asyncio.create_task(ConsistentReads(Views(), waiters).read_when_fresh(request(2), "users", table.read))

    async def waits() -> bool:
        return waiters.waiting == 1

    await until(waits, within=5, what="the request to wait")
    table.version = 2
    waiters.notify("users", str(ANN))

    assert await asked == 2
    assert table.reads == 2


async def test_a_move_during_the_first_read_is_not_missed(waiters: Waiters) -> None:
    table = Table()

    def move() -> None:
        table.version = 2
        waiters.notify("users", str(ANN))

    table.meanwhile = move

    assert await ConsistentReads(Views(), waiters).read_when_fresh(request(2), "users", table.read) == 2
    assert table.reads == 2

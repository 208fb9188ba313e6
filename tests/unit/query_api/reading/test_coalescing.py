"""What is asked in one turn becomes one batch, batches queue in order, and slow ones hold nobody up."""

import asyncio
from collections.abc import Sequence

import pytest

from chassis.postgres.database import DatabaseUnavailableError
from query_api.reading.coalescing import LANES, QUEUE_SECONDS, Coalescer
from tests.waiting import until

SECONDS = 5.0


class Source:
    """Answers each number with its double, once it is let to."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def read(self, key: str, asked: Sequence[int]) -> Sequence[int]:
        self.batches.append((key, list(asked)))
        await self.open.wait()
        if self.error:
            raise self.error
        return [2 * number for number in asked]


@pytest.fixture
async def source() -> Source:
    return Source()


def coalescer(source: Source, *, batch: int = 4, queued: int = 10) -> Coalescer[str, int, int]:
    return Coalescer(source.read, batch=batch, queued=queued)


async def test_what_is_asked_in_one_turn_is_one_batch_a_key_and_everybody_gets_his_own(source: Source) -> None:
    coalescing = coalescer(source)
    source.open.set()

    answers = await asyncio.gather(*(coalescing.ask("ab"[number % 2], number) for number in range(6)))

    assert answers == [0, 2, 4, 6, 8, 10]
    assert source.batches == [("a", [0, 2, 4]), ("b", [1, 3, 5])]


async def test_a_full_batch_is_followed_by_another(source: Source) -> None:
    coalescing = coalescer(source, batch=4)
    source.open.set()

    await asyncio.gather(*(coalescing.ask("a", number) for number in range(10)))

    assert [len(asked) for _, asked in source.batches] == [4, 4, 2]


async def test_batches_gather_while_the_lanes_are_taken_but_not_behind_slow_ones(source: Source) -> None:
    coalescing = coalescer(source, batch=2)
    asked = [asyncio.ensure_future(coalescing.ask("a", number)) for number in range(2 * LANES + 4)]

    async def all_begun() -> bool:
        return len(source.batches) == LANES + 2

    for _ in range(10):
        await asyncio.sleep(0)  # turns of the loop, in no time
    assert len(source.batches) == LANES
    await until(all_begun, within=SECONDS, what="others pass by those that take long")
    source.open.set()
    assert await asyncio.gather(*asked) == [2 * number for number in range(2 * LANES + 4)]


async def test_a_failure_is_told_to_all_in_the_batch_and_to_no_other(source: Source) -> None:
    coalescing = coalescer(source)
    source.open.set()
    source.error = ValueError("no")
    failed = await asyncio.gather(*(coalescing.ask("a", number) for number in range(3)), return_exceptions=True)
    source.error = None

    assert [str(error) for error in failed] == ["no"] * 3
    assert await coalescing.ask("a", 4) == 8


async def test_without_a_database_those_behind_are_refused_at_once(source: Source) -> None:
    coalescing = coalescer(source, batch=1)
    asked = [asyncio.ensure_future(coalescing.ask("a", number)) for number in range(LANES + 3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.error = DatabaseUnavailableError("down")
    source.open.set()

    refused = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), QUEUE_SECONDS / 2)

    assert {type(error) for error in refused} == {DatabaseUnavailableError}
    assert len(source.batches) == LANES


async def test_a_full_queue_refuses(source: Source) -> None:
    coalescing = coalescer(source, batch=1, queued=2)
    asked = [asyncio.ensure_future(coalescing.ask("a", number)) for number in range(3)]

    refused = (await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED))[0]

    assert [str(one.exception()) for one in refused] == ["2 batches of reads are queued"]
    source.open.set()
    await asyncio.gather(*asked[:2])


async def test_who_leaves_takes_nobodys_answer_along(source: Source) -> None:
    coalescing = coalescer(source)
    source.open.set()
    asked = [asyncio.ensure_future(coalescing.ask("a", number)) for number in range(3)]
    await asyncio.sleep(0)
    asked[1].cancel()

    assert [await asked[0], await asked[2]] == [0, 4]

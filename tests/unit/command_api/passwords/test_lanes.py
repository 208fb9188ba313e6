"""Whose turn it is among those who wait for a thread."""

import asyncio
from collections.abc import AsyncIterator, Callable
from threading import Event

import pytest

from command_api.passwords.lanes import Lane
from tests.waiting import until


class Works:
    """Works of one thread, which end once they may."""

    def __init__(self) -> None:
        self.lane = Lane("test", 1, 64)
        self.may_end = Event()
        self.done: list[str] = []

    async def begin(self, *names: str) -> list[asyncio.Task[None]]:
        """Have works wait, in this order; the first word of a name says whose one is."""
        tasks = [asyncio.create_task(self.lane.run(self._work(name), name.split()[0])) for name in names]
        await asyncio.sleep(0)
        return tasks

    def _work(self, name: str) -> Callable[[], None]:
        def work() -> None:
            self.may_end.wait()
            self.done.append(name)

        return work


@pytest.fixture
async def works() -> AsyncIterator[Works]:
    works = Works()
    try:
        yield works
    finally:
        works.may_end.set()
        await asyncio.to_thread(works.lane.end)


async def test_nobodys_second_goes_before_anothers_first(works: Works) -> None:
    busy = await works.begin(*(f"ann {number}" for number in range(1, 6)))
    others = await works.begin("bob 1", "carol 1", "bob 2")

    works.may_end.set()
    await asyncio.gather(*busy, *others)

    assert works.done == ["ann 1", "bob 1", "carol 1", "ann 2", "bob 2", "ann 3", "ann 4", "ann 5"]


async def test_what_is_cancelled_loses_its_turn_alone(works: Works) -> None:
    first, second, third, other = await works.begin("ann 1", "ann 2", "ann 3", "bob 1")
    second.cancel()
    await asyncio.wait([second])
    works.may_end.set()
    await asyncio.gather(first, third, other)

    assert works.done == ["ann 1", "bob 1", "ann 3"]


async def test_what_fails_fails_for_who_asked_and_the_thread_goes_on(works: Works) -> None:
    def fail() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        await works.lane.run(fail, "ann")
    works.may_end.set()
    await asyncio.gather(*await works.begin("ann 1"))

    assert works.done == ["ann 1"]


async def test_what_waits_at_the_end_is_dropped(works: Works) -> None:
    begun, *waiting = await works.begin("ann 1", "ann 2", "bob 1")
    threads = works.lane._executor

    async def is_ending() -> bool:
        return threads._shutdown and threads._work_queue.qsize() <= 1  # what is left there wakes the thread up

    ending = asyncio.create_task(asyncio.to_thread(works.lane.end))
    await until(is_ending, within=60, what="what waits is dropped")
    works.may_end.set()
    await ending

    await begun
    assert works.done == ["ann 1"]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in found] == [asyncio.CancelledError] * 2

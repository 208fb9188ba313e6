import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from local_stack.errors import ChildFailedError
from local_stack.processes.child import Child
from local_stack.processes.supervisor import RestartPolicy, Supervisor
from tests.integration.local_stack.processes.scripts import BROKEN, STEADY, STUBBORN, Script
from tests.waiting import until


class Notes:
    """Writes down what the supervisor tells."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.deaths: list[tuple[str, str, float]] = []
        self.stops: list[list[str]] = []

    def started(self, child: Child) -> None:
        self.starts.append(child.name)

    def died(self, child: Child, what: str, restart_in: float) -> None:
        self.deaths.append((child.name, what, restart_in))

    def stopping(self, children: Sequence[Child]) -> None:
        self.stops.append([child.name for child in children])


class Watched:
    """A supervisor with little patience, its notes and the children of a test."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.supervisor = Supervisor(
            self.notes,
            RestartPolicy(deaths=3, within_seconds=30, first_back_off_seconds=0.02, longest_back_off_seconds=1),
        )
        self.children: list[Child] = []

    async def start(self, *children: Child) -> None:
        self.children += children
        await self.supervisor.start(*children)

    async def stop(self, hasten: asyncio.Event | None = None) -> None:
        await self.supervisor.stop([[child] for child in self.children], hasten or asyncio.Event())


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    await made.stop()


async def test_restarts_a_child_that_is_killed(folder: Path, watched: Watched) -> None:
    child = Script("steady", folder, STEADY)
    await watched.start(child)
    first = child.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    await until(lambda: _equal(watched.notes.starts, ["steady", "steady"]), within=10, what="the restart")

    assert child.pid not in {None, first}
    assert watched.notes.deaths == [("steady", "ended unexpectedly (signal SIGKILL)", 0.02)]


async def test_gives_up_on_a_child_that_keeps_dying_and_shows_its_last_words(folder: Path, watched: Watched) -> None:
    child = Script("doomed", folder, STEADY)
    await watched.start(child)
    assert child.pid is not None
    child.source = BROKEN

    os.kill(child.pid, signal.SIGKILL)
    failure = await asyncio.wait_for(watched.supervisor.until_failure(), 10)

    assert "doomed died 3 times within 30 s" in str(failure)
    assert failure.last_lines == ["the reason"]
    assert [restart_in for _, _, restart_in in watched.notes.deaths] == [0.02, 0.04]
    assert not child.running


async def test_stops_in_the_order_given(folder: Path, watched: Watched) -> None:
    first, second = Script("first", folder, STEADY), Script("second", folder, STEADY)
    await watched.start(second, first)

    await watched.supervisor.stop([[first], [second]], asyncio.Event())

    assert watched.notes.stops == [["first"], ["second"]]
    assert not first.running
    assert not second.running


async def test_does_not_restart_what_it_stopped(folder: Path, watched: Watched) -> None:
    child = Script("steady", folder, STEADY)
    await watched.start(child)

    await watched.stop()

    assert watched.notes.deaths == []
    assert not child.running


async def test_haste_kills_what_will_not_end(folder: Path, watched: Watched) -> None:
    child = Script("stubborn", folder, STUBBORN)
    await watched.start(child)
    hasten = asyncio.Event()

    stop = asyncio.create_task(watched.stop(hasten))
    await until(lambda: _equal(watched.notes.stops, [["stubborn"]]), within=5, what="the stop to begin")
    hasten.set()
    await asyncio.wait_for(stop, 5)

    assert await child.wait() == -signal.SIGKILL


async def test_a_first_start_that_fails_is_told_at_once_and_the_others_can_still_be_stopped(
    folder: Path, watched: Watched
) -> None:
    good, bad = Script("good", folder, STEADY), Script("bad", folder, BROKEN)
    await watched.start(good)

    with pytest.raises(ChildFailedError, match="bad ended before it was ready"):
        await watched.start(bad)

    assert good.running
    await watched.stop()
    assert not good.running


async def _equal(found: object, wanted: object) -> bool:
    return found == wanted

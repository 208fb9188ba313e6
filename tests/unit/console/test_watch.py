"""One poll for all who look: how often it looks, and what it says where looks fail."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

import console.overview.page as page_module
from chassis.clock import utc_now
from chassis.lifecycle import alongside
from console.asking import Failed, within
from console.overview.observation import Observation, _readiness
from console.overview.page import Overview
from console.overview.scrape import scrape
from console.overview.watch import Watch
from tests.unit.console.test_overview import WELL
from tests.waiting import until

#: As in production, but for the unit.
PAUSE, IDLE = 0.2, 1.2
LOOKS = 4


class Looks:
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0
        self.fail = False

    async def __call__(self) -> Observation:
        self.count += 1
        if self.fail:
            raise RuntimeError("broken")
        return replace(WELL, at=utc_now())

    async def until(self, count: int) -> None:
        async def done() -> bool:
            return self.count >= count

        await until(done, within=20, what=f"{count} looks")


class Anybody:
    """Sessions of which each is good."""

    def __init__(self) -> None:
        self.are_over = False

    async def find(self, _: str) -> Any:
        return None if self.are_over else object()


class SomeSession:
    id = "x"


async def view(overview: Overview, events: int, sessions: Anybody) -> list[bytes]:
    told = []
    async with aclosing(overview.changes(sessions, SomeSession())) as changes:  # type: ignore[arg-type]
        async for change in changes:
            told.append(change)
            if len(told) == events:
                break
    return told


@pytest.mark.parametrize("viewers", [1, 2, 50])
async def test_however_many_watch_there_is_one_look_a_pause(viewers: int) -> None:
    looks = Looks()
    watch = Watch(looks, pause=PAUSE, idle=IDLE)
    overview, sessions = Overview(watch), Anybody()
    begin = time.monotonic()
    async with alongside(watch.run()):
        await asyncio.gather(*(view(overview, LOOKS, sessions) for _ in range(viewers)))
    passed = time.monotonic() - begin

    assert passed >= (LOOKS - 1) * PAUSE, "they did not come faster than they should"
    assert looks.count <= passed / PAUSE + 1


async def test_while_nobody_watches_looks_are_few_and_pages_without_scripts_make_none_more_than_a_pause() -> None:
    looks = Looks()
    watch = Watch(looks, pause=PAUSE, idle=IDLE)
    begin = time.monotonic()
    async with alongside(watch.run()):
        await looks.until(3)
        idle = time.monotonic() - begin
        begin, before, loaded = time.monotonic(), looks.count, 0
        while time.monotonic() - begin < 3 * PAUSE:
            assert await watch.fresh(5) is not None
            loaded += 1
            await asyncio.sleep(0)
        passed = time.monotonic() - begin

    assert idle >= 2 * IDLE
    assert loaded > 20
    assert looks.count - before <= passed / PAUSE + 1


async def test_who_comes_while_nobody_watched_is_told_soon() -> None:
    looks = Looks()
    watch = Watch(looks, pause=PAUSE, idle=60)
    async with alongside(watch.run()):
        await looks.until(1)
        await asyncio.wait_for(view(Overview(watch), 2, Anybody()), 10)


async def test_where_looks_fail_what_was_seen_is_said_to_be_old(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, sessions = Looks(), Anybody()
    moment = [utc_now()]
    watch = Watch(looks, pause=PAUSE, idle=IDLE, now=lambda: moment[0])
    overview = Overview(watch)
    monkeypatch.setattr(page_module, "_TELL_SECONDS", 0.1)
    async with alongside(watch.run()):
        [well] = await view(overview, 1, sessions)
        looks.fail = True
        moment[0] += timedelta(minutes=1)
        [stale] = await view(overview, 1, sessions)
        page = await overview.now()
        sessions.are_over = True
        over = await view(overview, 2, sessions)

    assert b"All is well" in well
    for said in (stale, page.encode()):
        assert b"All is well" not in said
        assert b"Not known: the last look was at" in said
    assert over[0].startswith(b"event: over\n")


@pytest.mark.parametrize(
    "body", ["[]", "1", '{"checks": []}', '{"checks": null}', "x", "", '{"checks": {"a": 1}}', '"x"']
)
async def test_whatever_answers_in_the_place_of_a_process_it_is_told(body: str) -> None:
    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, text=body)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        assert await _readiness(http, "http://there")


@pytest.mark.parametrize(
    "body", ["<html>", "[]", "muster_outbox_published_total", "# TYPE muster_outbox_x counter\nmuster_outbox_x{"]
)
async def test_metrics_that_are_others_are_a_part_that_is_not_known(body: str) -> None:
    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=body)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        found = await within(scrape(http, "http://there", "muster_outbox_", ("muster_outbox_x",)))
    assert isinstance(found, Failed)


async def test_a_failure_that_nobody_foresaw_is_one_parts_own() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    assert await within(broken()) == Failed("ZeroDivisionError: the console's log says what")

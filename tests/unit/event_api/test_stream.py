"""A stream lets others have their turn, and ends when nobody wants more of it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from aiokafka import ConsumerRecord
from starlette.types import Message, Scope

from chassis.access.guard import Access, enter
from chassis.http.transport.exchange import LONG_ANSWER
from chassis.lifecycle import alongside
from chassis.settings import Kafka
from event_api.http import stream as module
from event_api.http.ending import reading_while_asked
from event_api.http.stream import EventStream
from event_api.log.backlog import LogBacklog
from event_api.log.positions import LogPosition, PositionSeal
from event_api.log.reading import Reading
from event_api.log.ring import Ring
from event_api.users.messages import MessageFilter, UserRecord
from tests.integration.projectors.stream import lives

TOPIC = UUID(int=1)


async def nothing() -> Message:
    """What a client sends that stays."""
    await asyncio.Event().wait()
    raise AssertionError


def reading_all(count: int) -> Reading:
    """A reader in front of so many events."""
    ring, backlog = Ring(TOPIC, (0,), 1000, 0), LogBacklog(Kafka.model_construct(), "users.events", UserRecord)
    records = [UserRecord(cast("ConsumerRecord[Any, Any]", each)) for each in lives(8, count, seed=1)]
    for offset, each in enumerate(records):
        each.partition, each.offset = 0, offset
    ring.append(records, {}, None)
    return Reading(
        ring, backlog, PositionSeal(["s" * 32]), MessageFilter(), begin=LogPosition(TOPIC, 1, (0,), 0), goal=(count,)
    )


async def test_others_have_a_turn_between_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART_BYTES", 1000)
    reading, turns, sent = reading_all(60), 0, list[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def send(message: Message) -> None:
        if message.get("body"):
            sent.append(turns)
            if len(sent) == 10:
                reading.end()

    stream = EventStream(reading, full=False, tells_caught_up=False, cut_off_bytes=1024)
    scope: Scope = {"type": "http", "method": "GET"}
    enter(scope, Access(None))
    async with alongside(others()):
        await stream(scope, nothing, send)

    assert len(sent) >= 10
    assert len(set(sent)) == len(sent)


async def test_whoever_reads_slowly_is_cut_off_soon_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART_BYTES", 1000)
    monkeypatch.setattr(module, "LAST_SECONDS", 0.01)
    reading, parts, is_cut_off = reading_all(60), list[bytes](), asyncio.Event()

    async def send(message: Message) -> None:
        parts.extend(filter(None, [message.get("body")]))
        if len(parts) == 3:
            reading.end()
            await is_cut_off.wait()

    connection = SimpleNamespace(
        on_stop=lambda: None, is_stopping=False,
        cut_off=is_cut_off.set, cut_off_above=lambda _: None, unread=lambda: not is_cut_off.is_set(),
    )  # fmt: skip
    scope: Scope = {"type": "http", "method": "GET", LONG_ANSWER: connection}
    enter(scope, Access(None))
    async with asyncio.timeout(30):
        stream = EventStream(reading, full=False, tells_caught_up=False, cut_off_bytes=1024)
        await stream(scope, nothing, send)

    assert len(parts) == 3


async def test_a_process_that_was_told_to_stop_before_ends_it_at_once() -> None:
    scope: Scope = {LONG_ANSWER: SimpleNamespace(on_stop=lambda: None, is_stopping=True)}
    enter(scope, Access(None))
    reading = reading_all(0)

    async with reading_while_asked(reading, scope, nothing):
        assert reading.is_ended

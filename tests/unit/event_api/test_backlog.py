"""Older records are shared for a moment; a broker that hangs holds up nobody who does not want to wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from chassis.settings import Kafka
from event_api.log import backlog as module
from event_api.log.backlog import KEPT_SECONDS, LogBacklog, LogChunk, LogChunks
from event_api.log.consuming import LogAwayError
from event_api.log.positions import LogPosition, PositionSeal
from event_api.log.reading import Reading
from event_api.log.ring import Ring
from event_api.users.messages import MessageFilter, UserRecord

TOPIC = UUID(int=1)


def test_a_chunk_is_used_while_it_is_young() -> None:
    chunks = LogChunks()
    old = LogChunk(0, 10, [], read_at=1000)
    chunks.keep(0, old)

    assert chunks.find(0, 5, 1000 + KEPT_SECONDS) is old
    assert chunks.find(0, 5, 1001 + KEPT_SECONDS) is None


def test_what_is_old_is_not_held_once_something_new_comes() -> None:
    chunks = LogChunks()
    chunks.keep(0, LogChunk(0, 10, [], read_at=1000))

    chunks.keep(1, LogChunk(0, 10, [], read_at=1001 + KEPT_SECONDS))

    assert chunks.find(0, 5, 1000) is None


@asynccontextmanager
async def hanging() -> AsyncIterator[LogBacklog]:
    """A backlog whose broker takes connections and says nothing."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    kafka = Kafka.model_construct(kafka_bootstrap_servers=f"{host}:{port}")
    try:
        async with server, LogBacklog(kafka, "users.events", UserRecord) as backlog:
            yield backlog
    finally:
        for writer in writers:
            writer.close()
            await writer.wait_closed()


async def test_one_failure_fails_all_who_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    ring = Ring(TOPIC, (5, 5, 5), 1000, 0)
    async with hanging() as backlog:
        chunks = [backlog.chunk(ring, number, 0, until=5) for number in range(3)]
        first, *others = await asyncio.gather(*chunks, return_exceptions=True)

    assert isinstance(first, LogAwayError)
    assert [str(error) for error in others] == ["no answer to those who asked before"] * 2


async def test_a_reader_waits_no_longer_than_it_wants_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 3600)
    async with hanging() as backlog:
        begin, ring = LogPosition(TOPIC, 1000, (0,), 0), Ring(TOPIC, (5,), 1000, 0)
        reading = Reading(ring, backlog, PositionSeal(["s" * 32]), MessageFilter(), begin=begin, goal=(5,))

        assert list(await reading.read(0.01)) == []
        waiting = asyncio.ensure_future(reading.read(3600))
        await asyncio.sleep(0)
        reading.end()
        assert list(await waiting) == []

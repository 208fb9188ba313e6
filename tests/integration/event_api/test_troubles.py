"""A client that does not read, and a broker that does not answer."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client import REGISTRY

from chassis.settings import Kafka, Topics
from event_api.app import create_app
from event_api.http.stream import HEARTBEAT_SECONDS
from events.user_events import UserProfileChanged, UserRegistered
from local_stack.kafka.broker import KafkaServer
from tests.conftest import make_topics
from tests.event_streams import EventStream, streamed, taken, up_to
from tests.integration.event_api.conftest import client_of, make_settings
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.integration.query_api.real_server import served
from tests.issuing import bearer
from tests.waiting import until

#: Together far more than the sockets of both sides hold.
LARGE_EVENTS = 450


def large_events() -> list[FakeRecord]:
    user = new_user().model_copy(update={"attributes": {"a": "x" * 15_000}})
    return [
        record(UserProfileChanged(user=user.model_copy(update={"version": number}), previous={}))
        for number in range(1, LARGE_EVENTS + 1)
    ]


async def open_streams() -> float:
    return REGISTRY.get_sample_value("muster_event_api_streams") or 0


async def test_a_client_that_does_not_read_is_cut_off_and_its_position_stays_good(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    published = large_events()
    with served(create_app(make_settings(kafka, topics, SLOW_CLIENT_BYTES="65536"))) as url:
        authorization = bearer("shop", ["events:read", "users:read"])["Authorization"]
        with socket.create_connection((urlsplit(url).hostname or "", urlsplit(url).port or 0)) as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            idle.sendall(
                f"GET /events?full=true HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n".encode()
            )

            async def begun() -> bool:
                return await open_streams() == 1

            async def cut_off() -> bool:
                return await open_streams() == 0

            await until(begun, within=60, what="the stream begins")
            await publisher.publish(published)
            await until(cut_off, within=60, what="it is cut off")
            # What is on its way would take minutes through so small a window.
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
            idle.settimeout(30)
            came = await asyncio.to_thread(_rest, idle)
        positions = [line for line in came.split(b"\n\n")[:-1] if b"id: " in line]
        last_id = positions[-1].rpartition(b"id: ")[2].partition(b"\r\n")[0].decode()
        had = sum(b"event: " in part for part in positions)
        async with client_of(url) as client, streamed(client, last_id=last_id) as stream:
            rest = await up_to(aiter(stream), "caught-up")

    assert 0 < len(rest) < LARGE_EVENTS
    assert [event.json["version"] for event in rest] == list(range(had + 1, LARGE_EVENTS + 1))


def _rest(idle: socket.socket) -> bytes:
    """What had come; the connection ends with a reset."""
    came = b""
    try:
        while part := idle.recv(65536):
            came += part
    except ConnectionResetError:
        pass
    return came


@asynccontextmanager
async def frozen(server: KafkaServer) -> AsyncIterator[None]:
    """A broker that holds its connections and says nothing, until the block ends."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_a_filtered_stream_is_told_four_times_a_minute_where_it_is(
    kafka: Kafka, topics: Topics, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its position would be as old as its last event, and be refused one day."""
    assert HEARTBEAT_SECONDS == 15
    monkeypatch.setattr("event_api.http.stream.HEARTBEAT_SECONDS", 0.2)
    with served(create_app(make_settings(kafka, topics))) as url:
        async with client_of(url) as client:
            async with streamed(client, {"type": "muster.user.erased.v1"}) as stream:
                reading = asyncio.create_task(taken(aiter(stream), 1))
                await _more_comments(stream, 1)
                first = stream.last_id
                await publisher.publish([record(UserRegistered(user=new_user(number))) for number in range(20)])

                async def moved() -> bool:
                    return stream.last_id != first and len(stream.comments) > 2

                await until(moved, within=30, what="an id without an event")
                assert not reading.done(), "no event that was not asked for"
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

            after = {"after": stream.last_id}
            page = (await client.get("/events", params=after, headers={"Accept": "application/json"})).json()

    assert (page["data"], page["caught_up"]) == ([], True)


async def _more_comments(stream: EventStream, count: int) -> None:
    wanted = len(stream.comments) + count

    async def came() -> bool:
        return len(stream.comments) >= wanted

    await until(came, within=30, what="comments")


async def test_open_streams_outlive_a_broker_that_hangs_and_new_ones_are_told_to_wait(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("event_api.http.stream.HEARTBEAT_SECONDS", 0.2)
    async with KafkaServer(server_folder / "kafka", learn=False) as server:
        kafka = Kafka.model_construct(kafka_bootstrap_servers=server.bootstrap_servers)
        topics = await make_topics(kafka)
        user = new_user()
        with served(create_app(make_settings(kafka, topics))) as url:
            async with client_of(url) as client, streamed(client) as stream:
                following = asyncio.create_task(taken(aiter(stream), 1))

                async def is_away() -> httpx.Response | None:
                    answer = await client.get("/events")
                    return answer if answer.status_code == 503 else None

                async with frozen(server):
                    away = await until(is_away, within=60, what="new streams are refused")
                    ready = await client.get("/readyz")
                    # Whoever waits hears that the connection lives.
                    await _more_comments(stream, 3)

                async def is_back() -> bool:
                    return (await client.get("/readyz")).status_code == 200

                await until(is_back, within=120, what="the event API is ready again")
                async with Publisher.open(kafka, topics.events_topic) as publisher:
                    await publisher.publish([record(UserRegistered(user=user))])
                [event] = await following

    assert away is not None
    assert int(away.headers["retry-after"]) > 0
    assert away.json()["type"] == "/problems/unavailable"
    assert ready.status_code == 503
    assert event.json["user_id"] == str(user.id)

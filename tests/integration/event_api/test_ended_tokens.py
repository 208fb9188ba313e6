"""What goes on ends with the token that let it in, and its last position is good for the next one."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from chassis.settings import Kafka, Topics
from event_api.app import create_app
from event_api.http import ending, stream
from events.user_events import UserRegistered
from tests.event_streams import Sent, streamed, taken
from tests.integration.event_api.conftest import client_of, make_settings
from tests.integration.event_api.test_troubles import large_events
from tests.integration.projectors.stream import Publisher, new_user, record
from tests.integration.query_api.real_server import served
from tests.issuing import auth, token
from tests.waiting import until

PAGE = {"Accept": "application/json", "Prefer": "wait=30"}


def for_seconds(number: int) -> dict[str, str]:
    """A header whose token is good for so long, to the second."""
    return {"Authorization": f"Bearer {token('shop', ['events:read'], exp=int(time.time()) + number)}"}


def publish_keys(file: Path, **changes: str) -> None:
    """The issuer's keys in a file of the test's own."""
    known = json.loads(Path(auth()["AUTH_JWKS_FILE"]).read_text())["keys"]
    file.write_text(json.dumps({"keys": [{**each, **changes} for each in known]}))


async def rest(events: AsyncIterator[Sent]) -> None:
    """Read on to the end, which comes well before the next heartbeat."""
    async with asyncio.timeout(10):
        async for _ in events:
            pass


async def test_a_stream_and_a_waiting_page_end_with_their_token(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    users = [new_user(), new_user()]
    with served(create_app(make_settings(kafka, topics, AUTH_LEEWAY_SECONDS=0))) as url:
        async with httpx.AsyncClient(base_url=url, headers=for_seconds(3), timeout=60) as api:
            async with streamed(api) as stream:
                await publisher.publish([record(UserRegistered(user=users[0]))])
                events = aiter(stream)
                (first,) = await taken(events, 1)
                page = await api.get("/events", headers=PAGE)
                await rest(events)
            again = await api.get("/events", headers={"Last-Event-ID": stream.last_id})
        await publisher.publish([record(UserRegistered(user=users[1]))])
        async with client_of(url) as later, streamed(later, last_id=stream.last_id) as resumed:
            (second,) = await taken(aiter(resumed), 1)

    assert (page.status_code, page.json()["data"]) == (200, [])
    assert page.elapsed.total_seconds() < 10
    assert again.status_code == 401
    assert [first.json["user_id"], second.json["user_id"]] == [str(user.id) for user in users]


async def test_a_slow_reader_of_the_backlog_gets_no_more_soon_after_its_token_has_ended(
    kafka: Kafka, topics: Topics, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LAST_SECONDS", 0.2)
    await publisher.publish(large_events())
    with served(create_app(make_settings(kafka, topics, AUTH_LEEWAY_SECONDS=0))) as url, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.connect((urlsplit(url).hostname, urlsplit(url).port))
        [(name, value)] = for_seconds(2).items()
        slow.sendall(f"GET /events?from=beginning HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n".encode())
        slow.setblocking(False)

        async def is_cut_off() -> bool:
            """Read a thousand bytes a second: more than every client must."""
            try:
                slow.recv(10)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            return False

        await until(is_cut_off, within=30, what="the rest to be refused")


async def test_a_stream_ends_when_the_issuer_has_removed_the_key_of_its_token(
    kafka: Kafka, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "LOOK_SECONDS", 0.1)
    keys = tmp_path / "jwks.json"
    publish_keys(keys)
    more: dict[str, Any] = {"AUTH_JWKS_FILE": str(keys), "AUTH_JWKS_REFRESH_SECONDS": 1}
    with served(create_app(make_settings(kafka, topics, **more))) as url:
        async with client_of(url) as api, streamed(api) as stream:
            publish_keys(keys, kid="another")
            await rest(aiter(stream))

    assert stream.last_id

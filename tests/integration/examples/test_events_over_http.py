"""The example that follows the events over HTTP, killed again and again."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.settings import Kafka, Topics
from events.user_events import UserSnapshot
from examples.events_over_http import TABLES, follow, lines, messages, write
from tests.integration.examples.deliveries import deliveries, note_deliveries
from tests.integration.examples.processes import rows, running, variables
from tests.integration.projectors.stream import FakeRecord, Publisher, lives, new_user, record
from tests.issuing import token
from tests.waiting import until


def _header(item: FakeRecord, name: str) -> str:
    return (dict(item.headers)[name] or b"").decode()


def _event(item: FakeRecord) -> tuple[str, ...]:
    return tuple(_header(item, name) for name in ("ce_id", "ce_subject", "ce_sequence"))


def _by_user(events: Iterable[Sequence[Any]]) -> dict[str, list[tuple[str, int]]]:
    """The id and version of each event, in their order."""
    found: dict[str, list[tuple[str, int]]] = {}
    for event_id, user_id, version in events:
        found.setdefault(user_id, []).append((event_id, int(version)))
    return found


async def test_each_event_is_kept_once_and_in_order_whatever_is_killed(
    kafka: Kafka, topics: Topics, publisher: Publisher, url: str, tmp_path: Path
) -> None:
    file, records = tmp_path / "events.sqlite", lives(20, 130, seed=11)
    again = record(UserSnapshot(user=new_user(99)))
    records += [again]
    told = variables(
        kafka, topics, EVENT_API_URL=url, EVENTS_FILE=str(file), MUSTER_TOKEN=token("shop", ["events:read"])
    )
    note_deliveries(file)
    published: list[FakeRecord] = []
    for start in range(0, len(records), 50):
        portion = [*records[start : start + 50], again]
        async with running("examples.events_over_http", environment=told):
            await publisher.publish(portion)

            async def some_came(had: int = len(deliveries(file)), more: int = len(portion)) -> bool:
                return len(deliveries(file)) > had + more // 2

            await until(some_came, within=60, what="some of them to be written before the kill")
            published += portion
    async with running("examples.events_over_http", environment=told):

        async def all_came() -> bool:
            return len(deliveries(file)) >= len(published)

        await until(all_came, within=60, what="the rest")

    assert _by_user(deliveries(file)) == _by_user(map(_event, published))
    assert len(rows(file, "SELECT id FROM events")) == len(records)


def test_what_is_told_twice_is_noticed_though_it_is_written_once(tmp_path: Path) -> None:
    file, event = tmp_path / "events.sqlite", '{"id": "a", "user_id": "u", "version": 1, "changed": []}'
    note_deliveries(file)
    with closing(sqlite3.connect(file)) as database:
        for _ in range(2):
            write(database, "muster.user.registered.v1", event, "p")

    assert deliveries(file) == [("a", "u", 1)] * 2
    assert rows(file, "SELECT id FROM events") == [("a",)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_is_read_alike_however_it_is_cut(size: int) -> None:
    sent = 'id: a\n\n: still here\nid: b\n\nevent: one\ndata: {"x":"\u2028é"}\nid: c\n\n'.encode()
    parts = [sent[at : at + size] for at in range(0, len(sent), size)]

    assert list(messages(lines(parts))) == [("", "", "a"), ("", "", "b"), ("one", '{"x":"\u2028é"}', "c")]


def test_it_comes_back_after_the_seconds_that_are_said_and_soon_where_a_proxy_says_a_date(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = list[float]()
    monkeypatch.setattr("examples.events_over_http.time.sleep", pauses.append)
    said = ["Wed, 21 Oct 2026 07:28:00 GMT", "7", "-1"]
    answers = iter([*(httpx.Response(503, headers={"Retry-After": after}) for after in said), httpx.Response(401)])
    with (
        closing(sqlite3.connect(":memory:")) as database,
        httpx.Client(base_url="http://events", transport=httpx.MockTransport(lambda _: next(answers))) as client,
    ):
        database.executescript(TABLES)
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            follow(client, database)

    assert pauses == [1.0, 7.0, 1.0]

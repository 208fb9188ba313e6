"""What a client of the event API gets, over a real connection."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from chassis.consistency import ConsistencyToken
from chassis.identifiers import new_id
from chassis.settings import Kafka, Topics
from event_api.app import create_app
from events.user_events import PublicUser, UserEmailChanged, UserErased, UserRegistered, UserSnapshot
from tests.event_streams import Sent, streamed, taken, up_to, versions
from tests.integration.event_api.conftest import client_of, make_settings
from tests.integration.projectors.stream import FakeRecord, Publisher, lives, new_user, record
from tests.integration.query_api.real_server import served
from tests.waiting import until

BEGINNING: Final[Mapping[str, str | list[str]]] = {"from": "beginning"}


def header(item: FakeRecord, name: str) -> str:
    return (dict(item.headers)[name] or b"").decode()


def changed(user: PublicUser) -> tuple[PublicUser, FakeRecord]:
    after = user.model_copy(update={"email": "new@example.com", "version": user.version + 1})
    event = UserEmailChanged(user=after, previous={"email": user.email})
    return after, record(event, actor="shop", on_behalf_of="ann")


def expected(published: list[FakeRecord]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for item in published:
        assert item.key is not None
        found.setdefault(item.key.decode(), []).append(int(header(item, "ce_sequence")))
    return found


async def test_a_thin_event_says_what_changed_and_nothing_of_the_person(
    api: httpx.AsyncClient, publisher: Publisher
) -> None:
    user = new_user()
    after, change = changed(user)
    async with streamed(api) as stream:
        events = aiter(stream)
        await publisher.publish([record(UserRegistered(user=user))])
        await publisher.publish([change, record(UserSnapshot(user=after)), record(UserErased(user.id, 3))])
        first, second, third, fourth = await taken(events, 4)

        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert stream.answer.headers["cache-control"] == "no-store"
        assert stream.answer.headers["x-accel-buffering"] == "no"
        # The first thing that came was an id without an event.
        assert len(stream.ids) == 5
    assert second.json == {
        "id": header(change, "ce_id"),
        "type": "muster.user.email_changed.v1",
        "time": header(change, "ce_time"),
        "user_id": str(user.id),
        "version": 2,
        "actor": "shop",
        "on_behalf_of": "ann",
        "changed": ["email"],
        "token": ConsistencyToken(user.id, 2).encode(),
    }
    assert [event.type for event in (first, second, third, fourth)] == [
        f"muster.user.{name}.v1" for name in ("registered", "email_changed", "snapshot", "erased")
    ]
    assert [event.json["changed"] for event in (first, third, fourth)] == [[], [], []]
    assert "token" not in fourth.json
    assert first.json["actor"] is None


async def test_the_whole_user_is_for_who_may_read_users(url: str, api: httpx.AsyncClient, publisher: Publisher) -> None:
    user = new_user()
    after, change = changed(user)
    await publisher.publish([change, record(UserErased(user.id, 3))])

    refused = await api.get("/events", params={"full": "true"})
    async with (
        client_of(url, ["events:read", "users:read"]) as client,
        streamed(client, {"full": "true", **BEGINNING}) as stream,
    ):
        whole, erased = await up_to(aiter(stream), "caught-up")

    assert refused.status_code == 403
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="users:read"'
    assert whole.json["user"] == json.loads(after.model_dump_json())
    assert whole.json["previous"] == {"email": user.email}
    assert erased.json["user"] is None


async def test_the_beginning_gives_everything_and_goes_on(api: httpx.AsyncClient, publisher: Publisher) -> None:
    old, new = lives(8, 60, seed=1), lives(8, 40, seed=2)
    await publisher.publish(old)

    async with streamed(api, BEGINNING) as stream:
        events = aiter(stream)
        before = await up_to(events, "caught-up")
        await publisher.publish(new)
        after = await taken(events, len(new))

    assert versions(before) == expected(old)
    assert versions(after) == expected(new)


async def test_recent_gives_about_the_last_records_and_goes_on(
    api: httpx.AsyncClient, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("event_api.log.log.RECENT_OFFSETS", 12 * 4)
    user = new_user()
    many = [record(UserEmailChanged(user=user.model_copy(update={"version": n}), previous={})) for n in range(1, 21)]
    await publisher.publish(many)
    page: dict[str, Any] = {}

    async def readable() -> bool:
        answer = await api.get("/events", params={"from": "recent"}, headers={"Accept": "application/json"})
        page.update(answer.json())
        return bool(page["data"])

    await until(readable, within=30, what="what was committed")
    await publisher.publish([record(UserErased(user.id, 21))])
    async with streamed(api, last_id=page["next"]) as stream:
        [later] = await taken(aiter(stream), 1)

    # The last offset is that of the transaction's end.
    assert [event["version"] for event in page["data"]] == [18, 19, 20]
    assert page["caught_up"] is True
    assert later.json["version"] == 21


async def test_streams_leave_their_turns_to_those_who_come(
    kafka: Kafka, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("event_api.app.AT_ONCE", 1)
    with served(create_app(make_settings(kafka, topics))) as url:
        async with client_of(url) as client, streamed(client), streamed(client):
            page = await client.get("/events", headers={"Accept": "application/json"})

    assert page.status_code == 200


async def test_whoever_comes_back_gets_the_rest_once_from_any_process(
    kafka: Kafka, topics: Topics, url: str, publisher: Publisher
) -> None:
    published = lives(8, 60, seed=3)
    await publisher.publish(published[:50])
    found: list[Sent] = []
    with served(create_app(make_settings(kafka, topics))) as other:
        last_id, rest = "", published[50:]
        while len(found) < len(published):
            async with (
                client_of([url, other][len(found) % 2]) as client,
                streamed(client, None if last_id else BEGINNING, last_id=last_id) as stream,
            ):
                if len(found) >= 20 and rest:
                    await publisher.publish(rest)
                    rest = []
                async for event in stream:
                    if event.type != "caught-up":
                        found.append(event)
                        last_id = event.id
                        if len(found) % 7 == 0 or len(found) == len(published):
                            break

    assert versions(found) == expected(published)


async def test_filters_leave_out_and_a_position_fits_another_filter(
    api: httpx.AsyncClient, publisher: Publisher
) -> None:
    published = lives(8, 60, seed=4)
    await publisher.publish(published)
    one = next(iter(expected(published)))
    types = ["muster.user.registered.v1", "muster.user.erased.v1"]

    async with streamed(api, {"type": types, **BEGINNING}) as stream:
        found = await up_to(aiter(stream), "caught-up")
    async with streamed(api, {"user": one, **BEGINNING}) as stream:
        mine = await up_to(aiter(stream), "caught-up")
    async with streamed(api, last_id=found[-1].id) as stream:
        after = await up_to(aiter(stream), "caught-up")

    assert sorted(event.type for event in found) == sorted(
        kind for item in published if (kind := header(item, "ce_type")) in types
    )
    # An address with a type that is published no more, or not yet, stays good.
    promoted = {"type": "muster.user.promoted.v9", **BEGINNING}
    gone = await api.get("/events", params=promoted, headers={"Accept": "application/json"})
    assert (gone.status_code, gone.json()["data"]) == (200, [])
    assert versions(mine) == {one: expected(published)[one]}
    assert len(after) < len(published) - 1


async def test_pages_lead_to_the_end_and_a_wait_ends_with_the_first_event(
    api: httpx.AsyncClient, publisher: Publisher
) -> None:
    published = lives(8, 60, seed=5)
    await publisher.publish(published)
    asking = {"Accept": "application/json"}
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"caught_up": False}
    where = {"from": "beginning"}
    while not page["caught_up"]:
        answer = await api.get("/events", params={"limit": 25, **where}, headers=asking)
        page = answer.json()
        assert len(page["data"]) <= 25
        found += page["data"]
        where = {"after": page["next"]}
    nothing = (await api.get("/events", params=where, headers={**asking, "Prefer": "wait=0"})).json()
    user = new_user()

    async def register() -> None:
        await publisher.publish([record(UserRegistered(user=user))])

    waiting = asyncio.create_task(
        api.get("/events", params={"after": nothing["next"]}, headers={**asking, "Prefer": "wait=50"})
    )
    await register()
    waited = await waiting

    assert versions(Sent("", json.dumps(event), "") for event in found) == expected(published)
    assert nothing["data"] == []
    assert nothing["caught_up"]
    assert [event["user_id"] for event in waited.json()["data"]] == [str(user.id)]
    assert waited.headers["preference-applied"] == "wait=50"


async def test_a_name_with_what_only_some_call_a_line_end_stays_whole(url: str, publisher: Publisher) -> None:
    user = new_user().model_copy(update={"display_name": "a\u2028b\u0085c"})
    await publisher.publish([record(UserRegistered(user=user))])

    async with (
        client_of(url, ["events:read", "users:read"]) as client,
        streamed(client, {"full": "true", **BEGINNING}) as stream,
    ):
        [found] = await up_to(aiter(stream), "caught-up")

    assert found.json["user"]["display_name"] == user.display_name


async def test_what_is_no_event_of_ours_is_told_to_nobody(api: httpx.AsyncClient, publisher: Publisher) -> None:
    good = record(UserRegistered(user=new_user()))
    other_source = [(name, b"/elsewhere" if name == "ce_source" else value) for name, value in good.headers]
    foreign = [
        FakeRecord(b"no id", b"no json", []),
        FakeRecord(good.key, good.value, other_source),
        FakeRecord(str(new_id()).encode(), good.value, good.headers),
        FakeRecord(good.key, b'{"user":1}x', good.headers),
        FakeRecord(good.key, None, good.headers),
    ]
    await publisher.publish([*foreign, good])

    async with streamed(api, BEGINNING) as stream:
        found = await up_to(aiter(stream), "caught-up")

    assert [UUID(event.json["user_id"]) for event in found] == [UUID((good.key or b"").decode())]


#: Parameters, headers, the status, and what the problem names.
MISTAKES: Final = [
    ({"after": "x", "from": "now"}, {}, 422, "after"),
    ({"after": "x"}, {}, 400, "after"),
    ({"after": ""}, {}, 400, "after"),
    ({"from": "beginning"}, {"Last-Event-ID": "x"}, 400, "Last-Event-ID"),
    ({"from": "yesterday"}, {}, 422, "from"),
    ({"type": "registered"}, {}, 422, "muster.user.registered.v1"),
    ({"type": "muster.user.registered.v0"}, {}, 422, "type"),
    ({"user": "ann"}, {}, 422, "user"),
    ({"full": "yes"}, {}, 422, "full"),
    ({"limit": "10"}, {}, 422, "limit"),
    ({"limit": "0"}, {"Accept": "application/json"}, 422, "limit"),
    ({"since": "x"}, {}, 422, "since"),
    ({}, {"Accept": "text/html"}, 406, ""),
]


async def test_what_cannot_be_meant_is_refused_and_named(api: httpx.AsyncClient) -> None:
    for parameters, headers, status, named in MISTAKES:
        answer = await api.get("/events", params=parameters, headers=headers)

        assert answer.status_code == status, parameters
        problem = answer.json()
        assert status != 400 or problem["type"] == "/problems/invalid-position"
        assert named in str(problem.get("errors", ""))


async def test_a_head_says_what_a_get_would_and_other_methods_are_refused(api: httpx.AsyncClient) -> None:
    head = await api.head("/events")
    wrong = await api.post("/events")

    assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "GET, HEAD"

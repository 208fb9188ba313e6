"""Live events in the console: what is shown, that nothing is missed when a browser comes back, and when streams end."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from console.app import create_app
from console.events import tail
from event_api.app import create_app as create_event_api
from events.user_events import PublicUser, UserDeactivated, UserEmailChanged, UserErased, UserRegistered
from tests.event_streams import EventStream, Sent, taken
from tests.integration.console.conftest import Browser, Console, make_settings
from tests.integration.event_api.conftest import make_settings as event_api_settings
from tests.integration.projectors.stream import Publisher, new_user, record
from tests.integration.query_api.real_server import served
from tests.waiting import until


@pytest.fixture
async def publisher(kafka: Kafka, topics: Topics) -> AsyncIterator[Publisher]:
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        yield publisher


@pytest.fixture
def events_url(kafka: Kafka, topics: Topics) -> Iterator[str]:
    with served(create_event_api(event_api_settings(kafka, topics))) as url:
        yield url


@dataclass(slots=True)
class Viewer:
    """A browser that is signed in."""

    http: httpx.AsyncClient

    async def page(self, **query: str) -> str:
        return (await self.http.get("/events", params=query)).text

    def has(self, count: int) -> Callable[[], Awaitable[bool]]:
        """Whether the page has so many rows: what was committed can be read a moment later."""

        async def enough() -> bool:
            return len(kinds(await self.page())) == count

        return enough

    @asynccontextmanager
    async def live(self, page: str, *, last_id: str = "") -> AsyncIterator[tuple[EventStream, AsyncIterator[Sent]]]:
        """The stream that a page's script opens, or comes back to, once it is live."""
        path, after = (_attribute(page, name) for name in ("data-live", "data-after"))
        headers = {"Last-Event-ID": last_id} if last_id else {}
        async with self.http.stream("GET", f"{path}&after={after}", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            stream = EventStream(answer)
            messages = aiter(stream)
            assert (await anext(messages)).data == "Live"
            yield stream, messages


def _attribute(page: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', page)
    assert found is not None, page
    return found[1].replace("&amp;", "&")


@pytest.fixture
async def viewer(
    command_database: PostgresAddress, query_database: PostgresAddress, events_url: str
) -> AsyncIterator[Viewer]:
    app = create_app(make_settings(command_database, query_database, CONSOLE_EVENTS_URL=events_url))
    with served(app) as url:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            link = await Console(app, query_database).link("events:read", "users:read", "operations:read")
            assert (await Browser(http).sign_in(link)).status_code == 303
            yield Viewer(http)


def kinds(text: str) -> list[str]:
    """What the rows say that happened, from the top."""
    return re.findall(r'<span class="badge \w+">([^<]+)</span>', text)


async def test_the_last_events_are_shown_in_words_without_any_person(viewer: Viewer, publisher: Publisher) -> None:
    ada, bob = new_user(1), new_user(2)
    changed = ada.model_copy(update={"email": "countess@example.com", "version": 2})
    await publisher.publish(
        [
            record(UserRegistered(user=ada)),
            record(UserEmailChanged(user=changed, previous={"email": ada.email}), actor="shop"),
            record(UserErased(ada.id, 3)),
        ]
    )
    await publisher.publish([record(UserRegistered(user=bob))])
    await until(viewer.has(4), within=30, what="all events can be read")
    everything = await viewer.page()
    of_ada = await viewer.page(user=str(ada.id))
    registered = await viewer.page(type="registered")
    wrong = [await viewer.http.get("/events", params={name: "x"}) for name in ("type", "user")]

    assert kinds(of_ada) == ["Erased", "Address changed", "Registered"]
    assert sorted(kinds(everything)) == ["Address changed", "Erased", "Registered", "Registered"]
    assert kinds(registered) == ["Registered"] * 2
    assert f'href="/users/{bob.id}"' in registered
    assert "<bdi>shop</bdi>" in everything
    assert not any(word in everything for word in ("countess", ada.email, ada.username))
    assert [answer.status_code for answer in wrong] == [400, 400]


def deactivated(user: PublicUser, version: int) -> UserDeactivated:
    after = user.model_copy(update={"is_active": False, "status": "deactivated", "version": version})
    return UserDeactivated(user=after, previous={"is_active": True})


async def test_a_browser_that_comes_back_goes_on_where_it_was(viewer: Viewer, publisher: Publisher) -> None:
    ada, bob = new_user(1), new_user(2)
    await publisher.publish([record(UserRegistered(user=ada))])
    page = await viewer.page(user=str(ada.id))
    async with viewer.live(page) as (_, messages):
        await publisher.publish([record(UserRegistered(user=bob)), record(deactivated(ada, 2))])
        shown = kinds(page)
        while "Deactivated" not in shown:
            [last] = await taken(messages, 1)
            shown = kinds(last.data) + shown
    await publisher.publish([record(UserErased(ada.id, 3))])
    async with viewer.live(page, last_id=last.id) as (_, messages):
        [second] = await taken(messages, 1)

    assert shown == ["Deactivated", "Registered"]
    assert (second.type, kinds(second.data)) == ("rows", ["Erased"])


async def test_of_more_than_anybody_reads_the_newest_are_shown(
    viewer: Viewer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "MOST_ROWS", 2)
    ada = new_user(1)
    async with viewer.live(await viewer.page()) as (_, messages):
        await publisher.publish([record(deactivated(ada, version)) for version in range(1, 50)])
        shown, left_out = 0, 0
        while shown + left_out < 49:
            [message] = await taken(messages, 1)
            shown += len(kinds(message.data))
            left_out += sum(map(int, re.findall(r"(\d+) more came", message.data)))

    assert shown + left_out == 49
    assert left_out > 0


async def test_a_stream_ends_with_its_session(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "SESSION_SECONDS", 0.1)
    page = await viewer.page()
    async with viewer.live(page) as (_, messages):
        token = _attribute((await viewer.http.get("/events")).text, 'name="csrf" value')
        await viewer.http.post("/sign-out", data={"csrf": token})
        rest = [message async for message in messages]

    assert [message.type for message in rest] == ["over"]
    assert "not signed in" in rest[0].data
    refused = await viewer.http.get("/live/events")
    assert refused.status_code == 303


async def test_a_stream_waits_for_an_event_api_that_is_away(
    command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    app = create_app(make_settings(command_database, query_database))
    with served(app) as url:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            await Browser(http).sign_in(await Console(app, query_database).link())
            page = await http.get("/events")
            async with http.stream("GET", "/live/events") as answer:
                first = await anext(aiter(EventStream(answer)))

    assert page.status_code == 503
    assert '<a href="">Look again</a>' in page.text
    assert first.type == "state"
    assert first.data.startswith("Not live: The event API does not answer.")

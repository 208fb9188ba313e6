"""Read-your-writes on every route: fresh, behind, never, erased, malformed, and what waiting costs."""

import asyncio
import time
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from chassis.postgres.pool import Pool
from chassis.settings import PostgresAddress
from projectors.projections import signups, timeline, users
from query_api.app import create_app
from query_api.dependencies import QueryResources
from query_api.reading import waiters
from tests.integration.query_api.conftest import make_settings, serving
from tests.integration.query_api.read_side import ReadSide, erased, moved, person, token
from tests.issuing import operator
from tests.waiting import until

#: For the poll behind the notifications, where a notification must be what wakes: no test lasts as long.
NEVER_SECONDS = 3600.0
ROUTES = ("/users", "/users/digest", "/users/{id}", "/users/{id}/timeline", "/stats/signups")
OF_ROUTE = {
    "/users": users.PROJECTION,
    "/users/digest": users.PROJECTION,
    "/users/{id}": users.PROJECTION,
    "/users/{id}/timeline": timeline.PROJECTION,
    "/stats/signups": signups.PROJECTION,
}


async def ask(api: httpx.AsyncClient, route: str, user_id: UUID, *tokens: str, wait: int | None = 10) -> httpx.Response:
    headers = {"Consistency-Token": ", ".join(tokens)}
    if wait is not None:
        headers["Prefer"] = f"wait={wait}"
    return await api.get(route.replace("{id}", str(user_id)), headers=headers)


def resources(app: FastAPI) -> QueryResources:
    found: QueryResources = app.state.resources
    return found


async def waiting(app: FastAPI, number: int) -> None:
    async def so_many() -> bool:
        return resources(app).waiters.waiting == number

    await until(so_many, within=5, what=f"{number} requests wait")


@pytest.mark.parametrize("route", ROUTES)
async def test_what_is_there_already_is_answered_at_once(
    api: httpx.AsyncClient, read_side: ReadSide, route: str
) -> None:
    ann = person()
    await read_side.register(ann)

    answer = await ask(api, route, ann.id, token(ann.id, 1), wait=0)

    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=0"


@pytest.mark.parametrize("route", ROUTES)
async def test_waits_for_the_version_and_is_woken_by_the_projector(
    api: httpx.AsyncClient, app: FastAPI, read_side: ReadSide, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "POLL_SECONDS", NEVER_SECONDS)
    ann = person()
    await read_side.register(ann)

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(api, route, ann.id, token(ann.id, 2)))
        await waiting(app, 1)
        await read_side.apply(moved(ann, "new@example.com"))
        answer = await asked

    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=10"
    if "{id}" in route:
        assert answer.headers["consistency-token"] == token(ann.id, 2)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_version_that_does_not_come_is_504_never_something_older(
    api: httpx.AsyncClient, read_side: ReadSide, route: str
) -> None:
    ann = person()
    await read_side.register(ann)
    began = time.monotonic()

    answer = await ask(api, route, ann.id, token(ann.id, 2), wait=None)

    assert (answer.status_code, answer.json()["type"]) == (504, "/problems/not-yet-visible")
    assert answer.headers["retry-after"] == "1"
    assert 0.9 < time.monotonic() - began < 3
    assert "as-of" in answer.headers


@pytest.mark.parametrize("route", ROUTES)
async def test_only_the_projection_that_is_read_counts(api: httpx.AsyncClient, read_side: ReadSide, route: str) -> None:
    ann = person()
    await read_side.register(ann)
    others = [projection for projection in OF_ROUTE.values() if projection is not OF_ROUTE[route]]

    await read_side.apply(moved(ann, "new@example.com"), to=others)
    assert (await ask(api, route, ann.id, token(ann.id, 2), wait=0)).status_code == 504
    await read_side.apply(moved(ann, "new@example.com"), to=[OF_ROUTE[route]])
    assert (await ask(api, route, ann.id, token(ann.id, 2), wait=0)).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_the_token_of_an_erased_user_is_met_by_the_erasure(
    api: httpx.AsyncClient, app: FastAPI, read_side: ReadSide, route: str
) -> None:
    ann = person()
    await read_side.register(ann)

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(api, route, ann.id, token(ann.id, 2)))
        await waiting(app, 1)
        await read_side.apply(erased(ann))

    answer = await asked
    assert answer.status_code == (404 if "{id}" in route else 200)
    assert answer.headers["preference-applied"].startswith("wait=")


@pytest.mark.parametrize("route", ROUTES)
async def test_a_lost_notification_costs_a_moment_and_no_more(
    api: httpx.AsyncClient, app: FastAPI, read_side: ReadSide, route: str
) -> None:
    ann = person()

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(api, route, ann.id, token(ann.id, 1), wait=5))
        await waiting(app, 1)
        await read_side.register(ann, notify=False)

    assert (await asked).status_code == 200


async def test_a_token_of_somebody_else_makes_the_detail_wait_for_both(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann, bob = person(1), person(2)
    await read_side.register(ann)

    assert (await ask(api, "/users/{id}", ann.id, token(bob.id, 1), wait=0)).status_code == 504
    await read_side.register(bob)
    both = await ask(api, "/users/{id}", ann.id, token(bob.id, 1), token(ann.id, 1), wait=0)
    assert both.json()["id"] == str(ann.id)


async def test_a_list_waits_for_all_its_tokens_and_shows_them(
    api: httpx.AsyncClient, app: FastAPI, read_side: ReadSide
) -> None:
    people = [person(number) for number in range(20)]
    tokens = [token(user.id, 1) for user in people]

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(api, "/users", people[0].id, *tokens))
        await waiting(app, 1)
        for user in people:
            await read_side.register(user)

    assert {user["id"] for user in (await asked).json()["data"]} == {str(user.id) for user in people}
    assert (await ask(api, "/users", people[0].id, *tokens, tokens[0])).status_code == 400


async def test_of_two_tokens_of_one_user_the_later_counts(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)

    for tokens in ([token(ann.id, 2), token(ann.id, 1)], [token(ann.id, 1), token(ann.id, 2)]):
        assert (await ask(api, "/users", ann.id, *tokens, wait=0)).status_code == 504


@pytest.mark.parametrize("text", ["", "nonsense", "AQ", "é", "A" * 5000, "AQ,AQ"])
async def test_a_malformed_token_is_400_on_every_route(api: httpx.AsyncClient, text: str) -> None:
    for route in ROUTES:
        answer = await api.get(
            route.replace("{id}", str(person().id)), headers=[(b"Consistency-Token", text.encode("latin-1"))]
        )
        assert answer.status_code == 400, route
        assert answer.json()["errors"][0]["header"] == "Consistency-Token"


async def test_a_longer_wait_is_served_as_ten_seconds(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)

    answer = await ask(api, "/users/{id}", ann.id, token(ann.id, 1), wait=3600)

    assert answer.headers["preference-applied"] == "wait=10"


async def test_a_wait_without_a_token_is_not_applied(api: httpx.AsyncClient) -> None:
    answer = await api.get("/users", headers={"Prefer": "wait=5"})

    assert "preference-applied" not in answer.headers


async def test_waiters_hold_no_connection(query_database: PostgresAddress, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)
    app = create_app(make_settings(query_database, QUERY_POSTGRES_POOL_SIZE=1))

    async with serving(app) as api, asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(api, route, ann.id, token(ann.id, 2))) for route in ROUTES * 5]
        await waiting(app, len(asked))
        assert (await api.get("/users")).status_code == 200
        await read_side.apply(moved(ann, "new@example.com"))
        assert {(await one).status_code for one in asked} == {200}
        assert resources(app).waiters.waiting == 0


async def test_one_waiter_too_many_is_told_to_come_back(query_database: PostgresAddress) -> None:
    app = create_app(make_settings(query_database, QUERY_WAITERS=1))
    ann = person()

    async with serving(app) as api, asyncio.TaskGroup() as group:
        first = group.create_task(ask(api, "/users/{id}", ann.id, token(ann.id, 1), wait=2))
        await waiting(app, 1)
        refused = await ask(api, "/users", ann.id, token(ann.id, 1))
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/busy")
        assert refused.headers["retry-after"] == "1"
        assert (await api.get("/users")).status_code == 200
        assert (await first).status_code == 504


async def test_two_hundred_who_wait_ask_the_database_no_more_than_one_would(
    api: httpx.AsyncClient, app: FastAPI, read_side: ReadSide
) -> None:
    people = [person(number) for number in range(200)]
    sent: list[str] = []

    async with asyncio.TaskGroup() as group:
        asked: list[asyncio.Task[httpx.Response]] = []
        # A few at a time: who asks for a connection gets it within a second or is refused, also on a slow machine.
        while len(asked) < len(people):
            some = people[len(asked) :][:20]
            asked += [group.create_task(ask(api, "/users", user.id, token(user.id, 1), wait=10)) for user in some]
            await waiting(app, len(asked))
        await until(lambda: all_idle(app), within=5, what="each has looked for itself")
        for connection in pool(app)._open:
            connection.add_query_logger(lambda query: sent.append(query.query))
        over = asyncio.get_running_loop().time() + 2
        await until(lambda: later(over), within=5, what="two seconds of waiting")
        waited = list(sent)
        # Notifications that name nobody make polls, and wake nobody in vain.
        for _ in range(20):
            await read_side.connection.execute("SELECT pg_notify($1, '')", users.PROJECTION.schema.channel)
        await read_side.register(*people[:100])
        await asyncio.gather(*asked[:100])
        assert resources(app).waiters.waiting == 100
        assert len(sent) < len(waited) + 200
        await read_side.register(*people[100:])

    assert {(await one).status_code for one in asked} == {200}
    # Two polls a second for all of them, and one of the generations.
    assert 2 <= len(waited) <= 8, waited


def pool(app: FastAPI) -> Pool:
    return resources(app).reader._database.pool


async def all_idle(app: FastAPI) -> bool:
    return pool(app).lent == 0


async def later(moment: float) -> bool:
    return asyncio.get_running_loop().time() > moment


@pytest.mark.parametrize("route", ROUTES)
async def test_deaf_processes_look_for_all_who_wait_at_once(
    query_database: PostgresAddress, read_side: ReadSide, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a hot standby, where nobody can listen: no notification, yet all are woken soon."""
    monkeypatch.setattr(waiters, "POLL_SECONDS", NEVER_SECONDS)
    people = [person(number) for number in range(20)]
    app = create_app(make_settings(query_database))
    async with serving(app) as api, asyncio.TaskGroup() as group:
        resources(app).waiters._notified = lambda: False
        asked = [group.create_task(ask(api, route, user.id, token(user.id, 1))) for user in people]
        await waiting(app, len(asked))
        await read_side.register(*people, notify=False)
        assert {(await one).status_code for one in asked} == {200}


async def test_a_client_that_leaves_ends_its_wait(app: FastAPI, api: httpx.AsyncClient) -> None:
    ann = person()
    asked = asyncio.ensure_future(raw_request(app, ann.id, leave_when := asyncio.Event()))
    await waiting(app, 1)

    leave_when.set()
    sent = await asked

    assert sent == 499
    assert resources(app).waiters.waiting == 0


async def raw_request(app: FastAPI, user_id: UUID, leave_when: asyncio.Event) -> int:
    """Ask as a server would, and leave; returns the status that the metrics count."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/users/{user_id}",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"authorization", operator()),
            (b"consistency-token", token(user_id, 1).encode()),
            (b"prefer", b"wait=10"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("query", 80),
    }
    status = 0

    async def receive() -> dict[str, object]:
        await leave_when.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        nonlocal status
        assert isinstance(message, dict)
        status = message.get("status", status)

    await app(scope, receive, send)
    return status

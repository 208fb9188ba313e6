"""Who may read what from the query API: every route, every kind of caller; and that self cannot tell who exists."""

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from chassis.access.rules import Rule, UncoveredRouteError
from chassis.identifiers import new_id
from chassis.settings import PostgresAddress
from query_api.access import ACCESS
from query_api.app import create_app
from tests.integration.access.callers import assert_refused, send, shape, statements
from tests.integration.query_api.conftest import make_settings, serving
from tests.integration.query_api.read_side import START, ReadSide, erased, person, token
from tests.issuing import bearer

RULES: Final = {f"{rule.method} {rule.path}": rule for rule in ACCESS}
OWN: Final = [name for name, rule in RULES.items() if rule.own]
ANN: Final = person(1)


@pytest.fixture
def app(query_database: PostgresAddress) -> FastAPI:
    return create_app(make_settings(query_database))


@pytest.fixture
async def api(app: FastAPI, read_side: ReadSide) -> AsyncIterator[httpx.AsyncClient]:
    await read_side.register(ANN)
    await read_side.see(START)
    async with serving(app) as client:
        yield client


async def ask(api: httpx.AsyncClient, name: str, user_id: object, headers: dict[str, str]) -> httpx.Response:
    rule = RULES[name]
    body: dict[str, Any] = {} if rule.method == "GET" else {"json": {}}
    return await send(api, rule, rule.path.replace("{id}", str(user_id)), headers, **body)


@pytest.mark.parametrize("name", RULES)
async def test_whoever_may_not_is_refused(api: httpx.AsyncClient, name: str) -> None:
    rule = RULES[name]

    for user_id in (str(ANN.id), str(new_id()), "no-id"):
        await assert_refused(api, rule, rule.path.replace("{id}", user_id), ANN.id)
        if rule.method == "GET":
            head = Rule("HEAD", rule.path, rule.scopes, rule.own)
            assert (await send(api, head, rule.path.replace("{id}", user_id), {})).status_code == 401


@pytest.mark.parametrize("name", RULES)
async def test_its_scope_opens_a_route(api: httpx.AsyncClient, name: str) -> None:
    assert (await ask(api, name, ANN.id, bearer("shop", ["users:read"]))).status_code == 200


@pytest.mark.parametrize("name", OWN)
async def test_self_reads_itself_and_sees_every_other_user_as_absent(
    api: httpx.AsyncClient, read_side: ReadSide, name: str
) -> None:
    bob, cid = person(2), person(3, status="deactivated")
    gone = person(4)
    await read_side.register(bob, cid, gone)
    await read_side.apply(erased(gone))
    mine = bearer(str(ANN.id).upper(), ["self"])
    absent = new_id()

    expected = shape(await ask(api, name, absent, mine), absent)

    assert (await ask(api, name, ANN.id, mine)).status_code == 200
    assert expected[0] == 404
    for other in (bob.id, cid.id, gone.id):
        for more in ({}, {"If-None-Match": "*"}, {"Consistency-Token": token(ANN.id, 1)}):
            found = shape(await ask(api, name, other, {**mine, **more}), other)
            assert found == shape(await ask(api, name, absent, {**mine, **more}), absent)
        assert (await ask(api, name, other, bearer("shop", ["users:read"]))).status_code == (
            404 if other == gone.id else 200
        )


@pytest.mark.parametrize("name", OWN)
async def test_to_self_every_other_user_takes_as_long_as_an_absent_one(
    api: httpx.AsyncClient, app: FastAPI, read_side: ReadSide, name: str
) -> None:
    """The same statements for each."""
    bob, cid, gone = person(2), person(3, status="deactivated"), person(4)
    await read_side.register(bob, cid, gone)
    await read_side.apply(erased(gone))
    mine, pool = bearer(str(ANN.id), ["self"]), app.state.resources.reader._database.pool
    ids = [new_id(), bob.id, cid.id, gone.id]

    sent = [await statements(pool, ask(api, name, user_id, mine)) for user_id in ids]

    assert sent[0]
    assert sent == [sent[0]] * len(ids)


@pytest.mark.parametrize("name", OWN)
async def test_one_who_is_deactivated_may_still_read_itself(
    api: httpx.AsyncClient, read_side: ReadSide, name: str
) -> None:
    cid = person(3, status="deactivated")
    await read_side.register(cid)

    answer = await ask(api, name, cid.id, bearer(str(cid.id), ["self"]))

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", OWN)
async def test_self_may_send_no_token_of_another_user(api: httpx.AsyncClient, read_side: ReadSide, name: str) -> None:
    bob = person(2)
    await read_side.register(bob)
    mine = bearer(str(ANN.id), ["self"])

    def refusals(user_id: UUID) -> list[str]:
        return [token(user_id, 1), f"{token(ANN.id, 1)}, {token(user_id, 9)}"]

    for theirs, nobodys in zip(refusals(bob.id), refusals(new_id()), strict=True):
        there = await ask(api, name, ANN.id, {**mine, "Consistency-Token": theirs})
        absent = await ask(api, name, ANN.id, {**mine, "Consistency-Token": nobodys})
        assert there.status_code == 400
        assert shape(there, ANN.id) == shape(absent, ANN.id)
    assert (await ask(api, name, ANN.id, {**mine, "Consistency-Token": token(ANN.id, 1)})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/users/", 404),
        ("GET", "/users%0A", 404),
        ("GET", "/users/{id}/timeline%0A", 404),
        ("DELETE", "/users", 405),
        ("PUT", "/users/{id}", 405),
        ("GET", "/", 200),
        ("GET", "/health", 200),
        ("GET", "/readyz", 200),
        ("GET", "/docs", 200),
        ("HEAD", "/openapi.json", 200),
        ("GET", "/problems/unauthenticated", 200),
    ],
)
async def test_what_is_no_route_or_public_needs_no_token(
    api: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    for headers in ({}, bearer("shop", ())):
        answer = await send(api, Rule(method, path, ()), path.replace("{id}", str(ANN.id)), headers)
        assert answer.status_code == status


async def test_a_browser_is_led_to_the_docs_and_a_program_told_where_they_are(api: httpx.AsyncClient) -> None:
    browser = await api.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    program = await api.get("/")

    assert (browser.status_code, browser.headers["location"]) == (303, "/docs")
    assert program.text.count("\n") == 1
    assert program.json()["openapi"] == "/openapi.json"


async def test_a_route_that_says_nothing_about_access_keeps_the_api_from_starting(
    query_database: PostgresAddress,
) -> None:
    app = create_app(make_settings(query_database))
    app.get("/everything")(lambda: None)

    with pytest.raises(UncoveredRouteError, match="/everything"):
        async with app.router.lifespan_context(app):
            raise AssertionError("it must not start")


async def test_another_name_of_the_host_is_misdirected(query_database: PostgresAddress) -> None:
    async with serving(create_app(make_settings(query_database, ALLOWED_HOSTS="query,*.example.com"))) as api:
        answers = [await api.get("/users", headers={"host": host}) for host in ("query:80", "a.example.com", "evil")]
        probes = [await api.get(path, headers={"host": "10.0.0.7:8001"}) for path in ("/readyz", "/livez", "/health")]

    assert [answer.status_code for answer in answers] == [200, 200, 421]
    assert {probe.status_code for probe in probes} == {421}, "probes belong to the inner port, which asks for no name"


async def test_every_operation_of_the_document_says_what_opens_it(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    for rule in ACCESS:
        operation = document["paths"][rule.path][rule.method.lower()]
        assert operation["security"] == [{"bearer": []}]
        assert f"`{rule.scope}`" in operation["description"]
        assert {"401", "403"} <= set(operation["responses"])

"""Who may do what with the event API: every route, every kind of caller."""

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest

from chassis.access.rules import Rule, UncoveredRouteError
from chassis.identifiers import new_id
from chassis.settings import Kafka, PostgresAddress, Topics
from event_api.access import ACCESS
from event_api.app import create_app
from tests.integration.access.callers import assert_refused, send
from tests.integration.event_api.conftest import make_settings
from tests.integration.query_api.conftest import serving
from tests.issuing import bearer

RULES: Final = {f"{rule.method} {rule.path}": rule for rule in ACCESS}
USER: Final = new_id()
#: By route: the body of a request that is served, and what it is answered, for whoever may send it.
ANSWERS: Final[dict[str, tuple[dict[str, Any] | None, int]]] = {
    "GET /events": (None, 200),
    "POST /subscribers": ({"name": "mailer"}, 201),
    "GET /subscribers": (None, 200),
    "PUT /subscribers/{name}/position": ({"position": "forged"}, 400),
    "DELETE /subscribers/{name}": (None, 404),
    "GET /erasures": (None, 200),
    "GET /erasures/{id}": (None, 404),
}
#: What needs no token: what is public, and what is no route.
OPEN: Final = {
    ("GET", "/nowhere"): 404,
    ("GET", "/subscribers/nobody"): 405,
    ("PUT", "/erasures"): 405,
    ("POST", "/events/catalogue"): 405,
    ("GET", "/"): 200,
    ("GET", "/health"): 200,
    ("GET", "/events/catalogue"): 200,
    ("HEAD", "/events/catalogue"): 200,
    ("GET", "/receipts/jwks.json"): 200,
    ("HEAD", "/receipts/jwks.json"): 200,
    ("HEAD", "/openapi.json"): 200,
    ("GET", "/problems/erasure-not-found"): 200,
}


@pytest.fixture
async def api(kafka: Kafka, topics: Topics, query_database: PostgresAddress) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(create_app(make_settings(kafka, topics, query_database))) as client:
        yield client


def path_of(rule: Rule) -> str:
    return rule.path.replace("{id}", str(USER)).replace("{name}", "nobody")


def test_there_is_a_request_for_every_route() -> None:
    assert set(ANSWERS) == set(RULES)


async def test_whoever_may_not_is_refused_before_the_body_is_read(api: httpx.AsyncClient) -> None:
    for rule in ACCESS:
        await assert_refused(api, rule, path_of(rule), USER)
        if rule.method == "GET":
            assert (await send(api, Rule("HEAD", rule.path, rule.scopes), path_of(rule), {})).status_code == 401


async def test_each_scope_of_a_route_opens_it(api: httpx.AsyncClient) -> None:
    for name, rule in RULES.items():
        body, status = ANSWERS[name]
        for scope in rule.scopes:
            headers = {**bearer("shop", ["openid", scope]), "Accept": "application/json"}
            answer = await send(api, rule, path_of(rule), headers, **({} if body is None else {"json": body}))
            assert answer.status_code == status, (name, scope, answer.text)


async def test_what_is_no_route_or_public_needs_no_token(api: httpx.AsyncClient) -> None:
    for (method, path), status in OPEN.items():
        for headers in ({}, bearer("shop", ())):
            answer = await send(api, Rule(method, path, ()), path, headers)
            assert answer.status_code == status, (method, path)


async def test_a_route_that_says_nothing_about_access_keeps_the_api_from_starting(kafka: Kafka, topics: Topics) -> None:
    app = create_app(make_settings(kafka, topics))
    app.get("/everything")(lambda: None)

    with pytest.raises(UncoveredRouteError, match="/everything"):
        async with app.router.lifespan_context(app):
            raise AssertionError("it must not start")


async def test_every_operation_of_the_document_says_what_opens_it_and_what_it_answers(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    for rule in ACCESS:
        operation = document["paths"][rule.path][rule.method.lower()]
        assert operation["security"] == [{"bearer": []}]
        assert f"`{rule.scope}`" in operation["description"]
        assert {"401", "403", "422", "503"} <= set(operation["responses"])
    assert document["paths"]["/events/catalogue"]["get"]["security"] == []

"""HTTP done right, on every route: methods, negotiation, caching, CORS, request ids, documentation, problem pages."""

from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.http.api import BODY_BYTES
from query_api.app import create_app
from query_api.protocol.problems import QUERY_PROBLEMS
from query_api.settings import QueryApiSettings
from tests.integration.query_api.conftest import client_of, make_settings, serving
from tests.integration.query_api.read_side import ReadSide, moved, person

ROUTES = ("/users", "/users/digest", "/users/{id}", "/users/{id}/timeline", "/stats/signups")


async def test_head_answers_as_get_without_the_body(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann, person(1))
    await read_side.apply(moved(ann, "new@example.com"))

    for route in ROUTES:
        path = route.replace("{id}", str(ann.id))
        got, head = await api.get(path), await api.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(got.content) > 0
        assert set(head.headers) == set(got.headers), route


async def test_other_methods_are_405_and_say_which_are_allowed(api: httpx.AsyncClient) -> None:
    assert (await api.post("/health")).status_code == 405
    for route in ROUTES:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = await api.request(method, route.replace("{id}", str(person().id)))
            assert (answer.status_code, answer.json()["type"]) == (405, "/problems/method-not-allowed")
            assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_whatever_is_refused_says_how_fresh_the_tables_are(api: httpx.AsyncClient) -> None:
    for route in ROUTES:
        path = route.replace("{id}", str(person().id))
        large = await api.request("GET", path, content=b"x" * (BODY_BYTES + 1))
        refusals = [large, await api.post(path), await api.get(path, headers={"Accept": "text/html"})]
        assert [answer.status_code for answer in refusals] == [413, 405, 406]
        assert all("as-of" in answer.headers for answer in refusals), path


@pytest.mark.parametrize("accept", ["text/html", "application/xml, text/*", "application/json;q=0"])
async def test_who_takes_no_json_gets_406(api: httpx.AsyncClient, accept: str) -> None:
    for route in ROUTES:
        answer = await api.get(route.replace("{id}", str(person().id)), headers={"Accept": accept})
        assert (answer.status_code, answer.json()["type"]) == (406, "/problems/not-acceptable")


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/*", "text/html, application/json;q=0.1", "Application/json"]
)
async def test_who_takes_json_in_any_way_gets_it(api: httpx.AsyncClient, accept: str) -> None:
    assert (await api.get("/users", headers={"Accept": accept})).status_code == 200


async def test_every_answer_names_its_request(api: httpx.AsyncClient) -> None:
    for path in ("/users", "/users/ann", f"/users/{person().id}", "/nowhere"):
        answer = await api.get(path, headers={"X-Request-Id": "checkout-4711"})
        assert answer.headers["x-request-id"] == "checkout-4711"
        if answer.status_code != 200:
            assert answer.json()["request_id"] == "checkout-4711"
            assert answer.json()["instance"] == path
            assert answer.headers["content-type"] == "application/problem+json"
    assert (await api.get("/users", headers={"X-Request-Id": "a b"})).headers["x-request-id"] != "a b"


async def test_nothing_varies_or_is_kept_unsaid(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)

    for route in ROUTES:
        headers = (await api.get(route.replace("{id}", str(ann.id)))).headers
        assert headers["cache-control"] == ("private, no-cache" if route == "/users/{id}" else "no-store")
        assert headers["vary"] == "Accept, Consistency-Token, Prefer"
        assert ("etag" in headers) == (route == "/users/{id}")

        refused = (await api.get(route.replace("{id}", "nobody"), params={"nonsense": 1})).headers
        assert (refused["cache-control"], refused["vary"]) == ("no-store", "Accept, Consistency-Token, Prefer")


async def test_cors_is_closed_unless_opened(settings: QueryApiSettings) -> None:
    opened = settings.model_copy(update={"cors_allow_origins": "https://app.example.com"})
    origin = {"Origin": "https://app.example.com"}

    async with serving(create_app(settings)) as api:
        assert "access-control-allow-origin" not in (await api.get("/users", headers=origin)).headers
    async with serving(create_app(opened)) as api:
        answer = await api.get("/users", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {"Link", "ETag", "Consistency-Token", "As-Of", "Retry-After", "X-Total-Count"} <= exposed
        assert "Origin" in answer.headers["vary"]
        preflight = {**origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "prefer"}
        assert (await api.options("/users", headers=preflight)).status_code == 200


async def test_every_problem_type_has_a_page(api: httpx.AsyncClient) -> None:
    for kind in QUERY_PROBLEMS:
        page = await api.get(kind.uri)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert kind.slug in page.text


async def test_it_is_ready_once_all_that_a_query_needs_is_there(app: FastAPI, api: httpx.AsyncClient) -> None:
    assert (await api.get("/readyz")).json() == {"status": "ok"}
    assert await app.state.health.look("ready") == {"database": "ok", "generations": "ok", "issuer": "ok"}


async def test_an_app_whose_database_is_down_starts_and_says_so() -> None:
    from tests.servers.private_servers import nowhere  # noqa: PLC0415 - used here alone

    address = replace(nowhere(), server="localhost", user="arole", database="adatabase")
    settings = make_settings(address)
    app: FastAPI = create_app(settings)
    async with app.router.lifespan_context(app), client_of(app) as api:
        for path in (
            "/users",
            "/users/018f3c5a-7b1e-7cc2-9a51-0242ac120002",
            "/signups",
            "/health",
            "/livez",
            "/readyz",
        ):
            # Who asks from outside learns nothing of what is inside.
            said = (await api.get(path)).text
            inside = (address.server, str(address.port), address.database, settings.query_database.user)
            assert not [word for word in inside if word in said], said
        answer = await api.get("/users")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert answer.headers["retry-after"] == "1"
        ready = await api.get("/readyz")
        assert ready.status_code == 503
        assert "no connection to" in (await app.state.health.look("ready"))["database"]
        assert (await api.get("/livez")).status_code == 200


async def test_a_bug_is_a_problem_too(settings: QueryApiSettings) -> None:
    app = create_app(settings)

    async def bug(_: Request) -> Response:
        raise RuntimeError("secret internals")

    app.router.routes.append(Route("/problems/of/ours", bug))  # a public place
    async with serving(app) as api:
        answer = await api.get("/problems/of/ours")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/internal-error"
    assert "secret" not in answer.text

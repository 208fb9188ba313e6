"""What both APIs share, on a small app: request ids, problems for every status, limits, CORS, offline docs."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from chassis.access.rules import AccessTable, Rule
from chassis.access.settings import GuardedHttp
from chassis.http.api import ApiDescription, create_api
from chassis.http.health import LOOK_SECONDS, Health, NotReadyError, OneLook, Question, Results, inner_routes
from chassis.http.overload.admission import Admission
from chassis.http.problems import Problem, ProblemType, unavailable
from chassis.http.protection import Protection
from tests.certificates import Authority
from tests.waiting import until

ROUTES = (
    ("POST", "/things"),
    ("GET", "/things"),
    ("GET", "/teapot"),
    ("GET", "/down"),
    ("GET", "/bug"),
    ("GET", "/own-rule"),
)
TABLE = AccessTable(Rule(method, path, ("things",)) for method, path in ROUTES)

TEAPOT = ProblemType("teapot", 418, "A teapot <b>", "It is a teapot.", "Ask a kettle.")


class Body(BaseModel):
    """A body."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=5)


async def not_ready() -> None:
    raise NotReadyError("the database is away")


@asynccontextmanager
async def nothing(_: FastAPI) -> AsyncIterator[None]:
    yield


def make_app(cors: Sequence[str] = (), admission: Admission | None = None) -> FastAPI:
    open_to_all = GuardedHttp(_env_file=None, AUTH_DISABLED=True, CORS_ALLOW_ORIGINS=",".join(cors))
    app = create_api(
        ApiDescription(title="Test", summary="A test.", problems=(TEAPOT,)),
        lifespan=nothing,
        health=Health(ready={"database": not_ready}),
        protection=Protection(TABLE, open_to_all, host="127.0.0.1"),
        admission=admission or Admission(1),
        make_request_id=lambda: "made-here",
    )

    @app.post("/things")
    async def add(body: Body) -> Body:
        return body

    @app.get("/things")
    async def show(limit: int = 1) -> int:
        return limit

    @app.get("/teapot")
    async def teapot() -> None:
        raise Problem(TEAPOT, "short and stout")

    @app.get("/down")
    async def down() -> None:
        raise unavailable("no database")

    @app.get("/own-rule")
    async def own_rule() -> JSONResponse:
        return JSONResponse(1, headers={"Cache-Control": "private, no-cache"})

    @app.get("/bug")
    async def bug() -> None:
        message = "secret internals"
        raise RuntimeError(message)

    return app


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app()), base_url="http://localhost") as client:
        yield client


def problem(answer: httpx.Response) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["status"] == answer.status_code
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/things/", 404, "not-found"),
        ("DELETE", "/things", 405, "method-not-allowed"),
        ("GET", "/teapot", 418, "teapot"),
        ("GET", "/down", 503, "unavailable"),
        ("GET", "/bug", 500, "internal-error"),
        ("GET", "/things?limit=x", 422, "validation-error"),
        ("GET", "/things?limt=1", 422, "validation-error"),
        ("GET", "/things?limit=1&limit=2", 422, "validation-error"),
    ],
)
async def test_every_error_is_a_problem_whose_type_has_a_page(
    http: httpx.AsyncClient, method: str, path: str, status: int, slug: str
) -> None:
    answer = await http.request(method, path)

    assert answer.status_code == status
    document = problem(answer)
    assert document["type"] == f"/problems/{slug}"
    assert document["instance"] == path.partition("?")[0]
    assert (await http.get(str(document["type"]))).status_code == 200


async def test_nothing_internal_leaks_from_a_bug(http: httpx.AsyncClient) -> None:
    assert "secret internals" not in (await http.get("/bug")).text


async def test_405_says_what_is_allowed_and_503_when_to_come_back(http: httpx.AsyncClient) -> None:
    assert (await http.delete("/teapot")).headers["allow"] == "GET"
    assert (await http.get("/down")).headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        ('{"name":"a"}', "application/json", 200),
        ('{"name":"a"}', "application/json; charset=utf-8", 200),
        ("{", "application/json", 400),
        ("", "application/json", 422),
        ('{"name":"a"}', "text/plain", 415),
        ('{"name":"a"}', None, 415),
        ('{"name":"too long"}', "application/json", 422),
        ('{"name":"a","age":1}', "application/json", 422),
        ('{"name":"' + "a" * 70_000 + '"}', "application/json", 413),
    ],
)
async def test_bodies_are_refused_with_the_status_that_says_why(
    http: httpx.AsyncClient, content: str, content_type: str | None, status: int
) -> None:
    headers = {"content-type": content_type} if content_type else {}

    answer = await http.post("/things", content=content, headers=headers)

    assert answer.status_code == status
    if status != 200:
        problem(answer)


async def test_a_body_without_a_length_is_counted_while_it_is_read(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b"a" * 1000

    answer = await http.post("/things", content=chunks(), headers={"content-type": "application/json"})

    assert answer.status_code == 413


async def test_each_wrong_field_is_named_with_a_pointer_and_a_way_out(http: httpx.AsyncClient) -> None:
    answer = await http.post("/things", json={"name": "too long", "age": 1})

    errors = problem(answer)["errors"]
    assert errors == [
        {"detail": "string should have at most 5 characters", "pointer": "#/name"},
        {"detail": "is not a known field; remove it", "pointer": "#/age"},
    ]


async def test_a_given_request_id_is_echoed_and_a_bad_one_replaced(http: httpx.AsyncClient) -> None:
    good = await http.get("/health", headers={"x-request-id": "a.B_9-" + "x" * 122})
    bad = await http.get("/health", headers={"x-request-id": "not ok"})
    long = await http.get("/health", headers={"x-request-id": "x" * 129})

    assert good.headers["x-request-id"] == "a.B_9-" + "x" * 122
    assert bad.headers["x-request-id"] == long.headers["x-request-id"] == "made-here"


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/json", 200),
        ("application/*;q=0.1", 200),
        ("text/html, */*;q=0.1", 200),
        ("text/html", 406),
        ("application/json;q=0, */*", 406),
    ],
)
async def test_what_cannot_be_accepted_is_not_served(http: httpx.AsyncClient, accept: str, status: int) -> None:
    assert (await http.get("/things", headers={"accept": accept})).status_code == status


async def test_health_tells_the_version_and_readiness_the_reason(http: httpx.AsyncClient) -> None:
    health, live, ready = [await http.get(path) for path in ("/health", "/livez", "/readyz")]

    assert health.json()["status"] == "ok"
    assert health.json()["version"]
    assert live.status_code == 200
    assert (ready.status_code, ready.json()) == (503, {"status": "failed"})


async def test_everybody_is_answered_by_one_look_that_is_no_older_than_a_second() -> None:
    looks: list[asyncio.Event] = []
    clock = [100.0]

    class Database:
        async def look(self, question: Question) -> Results:
            looks.append(asyncio.Event())
            await looks[-1].wait()
            return {question: f"look {len(looks)}"}

    shared = OneLook(Database(), good_for=LOOK_SECONDS, now=lambda: clock[0])
    several = [asyncio.create_task(shared.look("ready")) for _ in range(20)]
    await until(lambda: _is(looks), within=10, what="a look")
    several[0].cancel()
    looks[0].set()

    answers = await asyncio.gather(*several, return_exceptions=True)
    assert answers[1:] == [{"ready": "look 1"}] * 19
    assert await shared.look("ready") == {"ready": "look 1"}
    clock[0] += LOOK_SECONDS + 0.1
    later = asyncio.create_task(shared.look("ready"))
    await until(lambda: _is(looks[1:]), within=10, what="another look")
    looks[1].set()
    assert await later == {"ready": "look 2"}


async def _is(something: object) -> bool:
    return bool(something)


async def test_many_who_ask_inside_share_a_look_and_the_next_one_sees_what_is_new() -> None:
    looks: list[asyncio.Event] = []

    class Database:
        async def look(self, question: Question) -> Results:
            looks.append(asyncio.Event())
            number = len(looks)
            await looks[-1].wait()
            return {question: f"look {number}"}

    app, asked = Starlette(routes=inner_routes(Database(), {})), list[Scope]()

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope)
        await app(scope, receive, send)

    transport = httpx.ASGITransport(noting)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as inside:
        several = [asyncio.create_task(inside.get("/readyz")) for _ in range(20)]
        await until(lambda: _is(len(asked) == 20), within=10, what="all have asked")
        looks[0].set()
        answers = await asyncio.gather(*several)
        later = asyncio.create_task(inside.get("/readyz"))
        await until(lambda: _is(looks[1:]), within=10, what="another look")
        looks[1].set()

        assert {answer.json()["checks"]["ready"] for answer in answers} == {"look 1"}
        assert (await later).json()["checks"]["ready"] == "look 2"


async def test_the_reason_and_the_metrics_are_told_inside_alone(http: httpx.AsyncClient) -> None:
    await http.get("/teapot")
    inner = Starlette(routes=inner_routes(make_app().state.health, {}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://localhost") as inside:
        ready, metrics = await inside.get("/readyz"), await inside.get("/metrics")

    assert ready.status_code == 503
    assert ready.json()["checks"] == {"database": "the database is away"}
    assert 'muster_http_requests_total{method="GET",status="418"}' in metrics.text
    assert (await http.get("/metrics")).status_code == 404


@pytest.mark.parametrize("workers", [1, 2])
async def test_metrics_say_when_certificates_expire_by_what_is_in_their_files_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    if workers > 1:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    authority = Authority(tmp_path)
    client = authority.sign("client", lifetime=timedelta(hours=1))
    later = authority.sign("later", lifetime=timedelta(days=90))
    both = tmp_path / "both.pem"
    both.write_bytes(client.certificate.read_bytes() + later.certificate.read_bytes())
    files = {
        "KAFKA_SSL_CERTFILE": str(both),
        "KAFKA_SSL_CAFILE": str(both),
        "QUERY_POSTGRES_SSLCERT": str(client.certificate),
        "QUERY_POSTGRES_SSLROOTCERT": str(tmp_path / "missing.pem"),
    }
    inner = Starlette(routes=inner_routes(Health(), files))

    async def hours_left() -> dict[str, int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://localhost") as inside:
            text = (await inside.get("/metrics")).text
        told = re.compile(r'^muster_certificate_expires_timestamp_seconds{variable="(\w+)"} (\S+)$', re.MULTILINE)
        return {variable: round((float(seconds) - time.time()) / 3600) for variable, seconds in told.findall(text)}

    assert await hours_left() == {
        "KAFKA_SSL_CERTFILE": 1,
        "KAFKA_SSL_CAFILE": 90 * 24,
        "QUERY_POSTGRES_SSLCERT": 1,
        "QUERY_POSTGRES_SSLROOTCERT": round(-time.time() / 3600),
    }

    client.certificate.write_bytes(later.certificate.read_bytes())

    assert (await hours_left())["QUERY_POSTGRES_SSLCERT"] == 90 * 24


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/problems/", "/problems/teapot"])
async def test_a_page_has_no_script_of_its_own_and_loads_nothing_from_elsewhere(
    http: httpx.AsyncClient, path: str
) -> None:
    answer = await http.get(path)
    policy = answer.headers["content-security-policy"]

    assert "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in answer.text
    assert re.findall(r"<script[^>]*>(?!</script>)|\son\w+=|\sstyle=", answer.text) == []
    for asset in re.findall(r'(?:src|rel="stylesheet" href)="([^"]+)"', answer.text):
        assert (await http.get(f"/{asset}")).status_code == 200


async def test_redoc_does_not_know_where_its_logo_would_be(http: httpx.AsyncClient) -> None:
    script = (await http.get("/static-offline-docs/redoc.standalone.js")).text

    assert "redocly logo" in script
    assert "cdn.redoc" not in script


@pytest.mark.parametrize(
    ("method", "path", "caching"),
    [("GET", "/things", "no-store"), ("GET", "/own-rule", "private, no-cache"), ("GET", "/docs", None)],
)
async def test_nobody_keeps_what_is_personal(
    http: httpx.AsyncClient, method: str, path: str, caching: str | None
) -> None:
    assert (await http.request(method, path)).headers.get("cache-control") == caching


async def test_problem_pages_are_escaped_and_listed(http: httpx.AsyncClient) -> None:
    page, index = await http.get("/problems/teapot"), await http.get("/problems/")

    assert "A teapot &lt;b&gt;" in page.text
    assert "Ask a kettle." in page.text
    assert "/problems/teapot" in index.text
    assert (await http.get("/problems/unheard-of")).status_code == 404


async def test_cors_is_closed_by_default_and_exposes_what_clients_need_when_open() -> None:
    origin = {"origin": "https://app.example"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app()), base_url="http://localhost") as closed:
        assert "access-control-allow-origin" not in (await closed.get("/things", headers=origin)).headers
    open_app = make_app(["https://app.example"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(open_app), base_url="http://localhost") as client:
        answer = await client.get("/things", headers=origin)
        stranger = await client.get("/things", headers={"origin": "https://evil.example"})

    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {
        "Location",
        "Link",
        "ETag",
        "Consistency-Token",
        "As-Of",
        "Retry-After",
        "X-Total-Count",
        "Idempotent-Replayed",
    }
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [("GET", "/bug", b"", 500), ("GET", "/down", b"", 503), ("POST", "/things", b"a" * 70_000, 413)],
)
async def test_browsers_may_read_every_refusal(method: str, path: str, content: bytes, status: int) -> None:
    transport = httpx.ASGITransport(make_app(["https://app.example"]))
    headers = {"origin": "https://app.example", "content-type": "application/json"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.request(method, path, content=content, headers=headers)

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    problem(answer)


async def test_a_refused_preflight_is_a_problem_and_an_allowed_one_is_not() -> None:
    transport = httpx.ASGITransport(make_app(["https://app.example"]))
    asks = {"access-control-request-method": "POST"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        refused = await client.options("/things", headers={"origin": "https://evil.example", **asks})
        allowed = await client.options("/things", headers={"origin": "https://app.example", **asks})

    assert problem(refused)["type"] == "/problems/cors-refused"
    assert problem(refused)["instance"] == "/things"
    assert "access-control-allow-origin" not in refused.headers
    assert allowed.status_code == 200


async def test_a_preflight_for_a_foreign_name_is_misdirected() -> None:
    transport = httpx.ASGITransport(make_app(["https://app.example"]))
    headers = {"origin": "https://app.example", "access-control-request-method": "POST", "host": "evil.example"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.options("/things", headers=headers)

    assert problem(answer)["type"] == "/problems/misdirected-request"
    assert answer.status_code == 421
    assert "access-control-allow-origin" not in answer.headers


async def test_openapi_is_served_and_says_which_version(http: httpx.AsyncClient) -> None:
    document = json.loads((await http.get("/openapi.json")).text)

    assert document["openapi"].startswith("3.1")

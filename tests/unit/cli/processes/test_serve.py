"""What a served API answers before any app is asked."""

import asyncio
import gc
import json
import os
import socket
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest
import typer
from starlette.applications import Starlette
from uvicorn.config import STARTUP_FAILURE
from uvicorn.server import ServerState

from chassis.http.health import Health
from chassis.http.listening import serve_health, server_config
from chassis.http.transport.exchange import TURN_AWAY
from chassis.settings import Http, Transport
from chassis.settings_error import SettingsError
from cli.processes import serve
from local_stack.ports import free_port
from tests.forks import NOWHERE, Fork
from tests.unit.chassis.test_http_api import make_app
from tests.unit.cli.processes.failing_workers import supervise

READ_SECONDS = 5
#: A machine that is ten times slower still does it.
START_SECONDS = 120
REQUIRED = {
    "POSTGRES_USER": "u",
    "POSTGRES_PASSWORD": "p",
    "POSTGRES_SERVER": "s",
    "COMMAND_POSTGRES_DB": "c",
    "QUERY_POSTGRES_DB": "q",
    "IDEMPOTENCY_SECRET": "0123456789abcdef0123456789abcdef",
    "CREDENTIALS_SECRETS": "0123456789abcdef0123456789abcdef",
    "CURSOR_KEYS": "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
}

CONSOLE = {
    "CONSOLE_SECRET": "0123456789abcdef0123456789abcdef",
    "KAFKA_BOOTSTRAP_SERVERS": "k:9092",
    "CONSOLE_COMMAND_URL": "http://command",
    "CONSOLE_QUERY_URL": "http://query",
    "CONSOLE_EVENTS_URL": "http://events",
}


def nothing() -> Starlette:
    return Starlette()


async def answer_to(request: bytes) -> bytes:
    """Everything that comes back on a connection of its own."""
    config = server_config(nothing, Transport(), factory=True)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: config.http_protocol_class(config, ServerState(), {}), "127.0.0.1", 0)  # type: ignore[call-arg]
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(request)
        answered = await asyncio.wait_for(reader.read(), READ_SECONDS)
        writer.close()
        await writer.wait_closed()
    return answered


@pytest.mark.parametrize(
    ("request_", "instance"),
    [
        (b"FOO /users HTTP/1.1\r\nHost: x\r\n\r\n", ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", ""),
        (b"GET /users?x=1 HTTP/1.1\r\nHost x\r\n\r\n", "/users"),
        (b"GET /users HTTP/1.1\r\nContent-Length: many\r\n\r\n", "/users"),
    ],
)
async def test_what_is_no_http_request_is_answered_with_a_problem(request_: bytes, instance: str) -> None:
    head, _, body = (await answer_to(request_)).partition(b"\r\n\r\n")
    status, _, rest = head.partition(b"\r\n")
    headers, document = message_from_bytes(rest), json.loads(body)

    assert status == b"HTTP/1.1 400 Bad Request"
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert (document["type"], document["status"], document["instance"]) == (
        "/problems/malformed-request",
        400,
        instance,
    )
    assert document["request_id"] == headers["x-request-id"]


def tell(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_FILE", "AUTH_JWKS_URL", "AUTH_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("api", ["command", "query"])
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "AUTH_ISSUER is missing"),
        ({"AUTH_ISSUER": "https://login.example.com"}, "AUTH_AUDIENCE is missing"),
        ({"AUTH_ISSUER": "here", "AUTH_AUDIENCE": "muster"}, "AUTH_JWKS_FILE"),
        ({"AUTH_DISABLED": "true", "COMMAND_API_HOST": "0.0.0.0", "QUERY_API_HOST": "0.0.0.0"}, "AUTH_DISABLED"),
        ({"AUTH_DISABLED": "true", "CORS_ALLOW_ORIGINS": "https://a.example, *"}, "CORS_ALLOW_ORIGINS"),
    ],
)
def test_an_api_that_does_not_know_whom_to_let_in_does_not_begin_to_listen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, api: str, variables: dict[str, str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "_bind", lambda *_: pytest.fail("it listened"))
    tell(monkeypatch, REQUIRED | variables)

    with pytest.raises(SettingsError) as refused:
        getattr(serve, api)()

    assert any(said in line for line in refused.value.lines)


@pytest.mark.parametrize("api", ["command", "query"])
@pytest.mark.parametrize("same", [True, False])
def test_an_inner_port_that_is_taken_or_the_public_one_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], api: str, same: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        ports = {"PORT": port if same else free_port(), "OPS_PORT": port}
        variables = {f"{api.upper()}_API_{name}": str(number) for name, number in ports.items()}
        tell(monkeypatch, REQUIRED | {"AUTH_DISABLED": "true"} | variables)

        with pytest.raises(typer.Exit):
            getattr(serve, api)()

    said = " ".join(capsys.readouterr().err.split())
    assert (f"Port {port} is wanted twice" if same else f"Cannot listen on 127.0.0.1:{port}") in said
    assert f"{api.upper()}_API_OPS_PORT" in said


def test_of_two_that_start_at_once_on_one_port_one_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with serve._bind("127.0.0.1", port, "--port"), pytest.raises(typer.Exit):
        serve._bind("127.0.0.1", port, "--port")

    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("localhost", 200), ("evil.example", 421)])
async def test_an_inner_port_of_this_machine_answers_to_no_name_that_others_point_there(host: str, status: int) -> None:
    port = free_port()
    async with serve_health(Health(), host="127.0.0.1", port=port, transport=Transport()), httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{port}/readyz", headers={"Host": f"{host}:{port}"})

    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_an_app_leaves_for_the_transport_reaches_it(tmp_path: Path) -> None:
    served = serve._telling(make_app(), tmp_path, Http.model_construct())

    async with served.router.lifespan_context(served) as state:
        assert state
        assert TURN_AWAY in state


async def test_a_supervisor_whose_workers_cannot_start_does_not_end_well() -> None:
    process = await Fork.start(supervise, err=NOWHERE)
    try:
        assert await asyncio.wait_for(process.wait(), START_SECONDS) == STARTUP_FAILURE
    finally:
        process.kill()
        await process.wait()


def tell_young_objects(app: str, to: Path) -> None:
    getattr(serve, app)()
    to.write_text(str(gc.get_threshold()[0]))


@pytest.mark.parametrize(
    ("app", "greatest"),
    [("command_app", serve.YOUNG_OBJECTS), ("query_app", serve.YOUNG_OBJECTS), ("console_app", gc.get_threshold()[0])],
)
async def test_the_collector_does_not_walk_through_each_answer(tmp_path: Path, app: str, greatest: int) -> None:
    told = {**os.environ, **REQUIRED, **CONSOLE, "AUTH_DISABLED": "true"}
    process = await Fork.start(tell_young_objects, app, tmp_path / "told", environment=told)
    try:
        assert await asyncio.wait_for(process.wait(), START_SECONDS) == 0
    finally:
        process.kill()
        await process.wait()

    assert int((tmp_path / "told").read_text()) == greatest

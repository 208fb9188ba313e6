"""Forged tokens as a stranger sends them, byte for byte, to each API: all are refused, and none breaks anything."""

import socket
from collections import Counter
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from chassis.access.authenticator import Authenticator
from chassis.settings import Kafka, PostgresAddress, Topics
from command_api.app import create_app as create_command_api
from event_api.app import create_app as create_event_api
from query_api.app import create_app as create_query_api
from tests.integration.command_api.conftest import make_settings as command_settings
from tests.integration.event_api.conftest import make_settings as event_settings
from tests.integration.query_api.conftest import make_settings as query_settings
from tests.integration.query_api.real_server import served
from tests.unit.chassis.access.forging import AUDIENCE, ISSUER, NOW, forged, key_set, sign

#: What is asked of each API, and the statuses of the answers to a right token.
REQUESTS: Final = {
    "command": (b"POST /users HTTP/1.1\r\nContent-Length: 0\r\n", {403, 415}),
    "query": (b"GET /users HTTP/1.1\r\n", {200}),
    "events": (b"GET /events?from=beginning HTTP/1.1\r\nAccept: application/json\r\n", {403}),
}


@pytest.fixture(params=REQUESTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(
    name: str,
    *,
    command_database: PostgresAddress,
    query_database: PostgresAddress,
    kafka: Kafka,
    topics: Topics,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Starlette:
    # The clock of the tokens: otherwise each would be refused for its times, before anybody looks at its signature.
    monkeypatch.setattr(Authenticator.__init__, "__kwdefaults__", {"now": lambda: NOW})
    keys = tmp_path / "jwks.json"
    keys.write_bytes(key_set())
    issuer = {"AUTH_ISSUER": ISSUER, "AUTH_AUDIENCE": AUDIENCE, "AUTH_JWKS_FILE": str(keys)}
    if name == "command":
        return create_command_api(command_settings(command_database, **issuer))
    if name == "query":
        return create_query_api(query_settings(query_database, **issuer))
    return create_event_api(event_settings(kafka, topics, query_database, **issuer))


def test_no_forged_token_is_let_in_or_breaks_anything(name: str, app: Starlette) -> None:
    request, let_in = REQUESTS[name]
    with served(app) as url:
        host = urlsplit(url).netloc
        before = _status(host, request, sign())
        answers = {title: _status(host, request, token) for title, token in forged()}
        after = _status(host, request, sign())

    assert {before, after} <= let_in
    assert {title: status for title, status in answers.items() if status not in {400, 401, 431}} == {}
    assert Counter(answers.values())[401] >= 200


def _status(host: str, request: bytes, token: str) -> int:
    """The status of the answer to a request with this token, on a connection of its own."""
    address, _, port = host.partition(":")
    raw = token.encode("utf-8", "surrogatepass")
    with socket.create_connection((address, int(port)), timeout=30) as connection, connection.makefile("rb") as answer:
        connection.sendall(request + b"Host: " + host.encode() + b"\r\nConnection: close\r\nAuthorization: Bearer ")
        connection.sendall(raw + b"\r\n\r\n")
        return int(answer.readline().split(b" ")[1])

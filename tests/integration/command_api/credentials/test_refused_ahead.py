"""Guesses that are refused ahead of the app, by a real server: the app's own words, and nothing it would not say."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest

from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.credentials.attempts.refusals import MEMORY_SECONDS, Refusals
from command_api.credentials.verification import LogIns
from tests.integration.command_api.conftest import make_settings, problem, registration
from tests.integration.query_api.real_server import served
from tests.issuing import bearer

ALLOWED = "127.0.0.1"
#: Headers and members of requests that are refused for something else, whoever is guessed at.
UNFIT: list[tuple[dict[str, str], dict[str, str], int]] = [
    ({"Authorization": ""}, {}, 401),
    ({"Authorization": "Bearer nonsense"}, {}, 401),
    (bearer("reader", ["users:read"]), {}, 403),
    ({"Host": "evil.example"}, {}, 421),
    ({"Idempotency-Key": "k"}, {}, 400),
    ({"Content-Type": "text/plain"}, {}, 415),
    ({"Accept": "text/html"}, {}, 406),
    ({}, {"another": "member"}, 422),
    ({}, {"password": ""}, 422),
    ({}, {"padding": "x" * 65 * 1024}, 413),
]


class OneSegment(httpx.BaseTransport):
    """Sends head and body together, as tools do that guess in numbers; httpx's own sends one after the other."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        lines = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1".encode()]
        lines += [name + b": " + value for name, value in request.headers.raw]
        url = request.url
        with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
            connection.sendall(b"\r\n".join([*lines, b"", request.read()]))
            with HTTPResponse(connection, method=request.method) as answer:
                answer.begin()
                return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


@dataclass
class Flooded:
    """A command API whose memory stands still once ann's counter refuses, and what of the requests reached the app."""

    client: httpx.Client
    reached: list[Any] = field(default_factory=list)
    now: list[float] = field(default_factory=lambda: [1000.0])

    def guess(
        self, identifier: str = "ann", *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        body = {"identifier": identifier, "password": "a guess", **more}
        return self.client.post("/credentials/verify", json=body, headers=headers)

    def begin(self, memory: Refusals) -> None:
        """Fill the counters of somebody and of nobody, and hear of both from the database."""
        for identifier in ("ann", "nobody"):
            for _ in range(10):
                problem(self.guess(identifier), 403, "invalid-credentials")
            problem(self.guess(identifier), 429, "too-many-attempts")
        assert memory
        self.reached.clear()


@pytest.fixture
def flooded(command_database: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flooded]:
    app = create_app(make_settings(command_database, ALLOWED_HOSTS=ALLOWED))
    verify = LogIns.verify

    async def noting(self: LogIns, given: Any, cause: Any) -> Any:
        those.reached.append(given)
        return await verify(self, given, cause)

    monkeypatch.setattr(LogIns, "verify", noting)
    with served(app) as url, httpx.Client(base_url=url, headers=bearer(), transport=OneSegment()) as client:
        those = Flooded(client)
        memory = Refusals(lambda: those.now[-1])
        app.state.resources.log_ins.checks.attempts.refusals = memory
        assert client.post("/users", json=registration("ann")).status_code == 201
        those.begin(memory)
        yield those


def said(answer: httpx.Response) -> tuple[str, set[tuple[str, str]]]:
    """An answer but for ids and times."""
    headers = {each for each in answer.headers.items() if each[0] not in {"x-request-id", "date"}}
    return answer.text.replace(answer.headers["x-request-id"], "ID"), headers


def test_a_refused_guess_does_not_reach_the_app_which_would_say_the_same_of_anybody(flooded: Flooded) -> None:
    ahead = [flooded.guess(identifier) for identifier in ("ann", "ANN", "nobody", "Nobody")]
    assert not flooded.reached
    # What is unusual about a request the app looks at.
    within = [flooded.guess(identifier, headers={"Accept": "application/*"}) for identifier in ("ann", "nobody")]

    assert len(flooded.reached) == 2
    for answer in (*ahead, *within):
        problem(answer, 429, "too-many-attempts")
        assert answer.headers["retry-after"]
    times = {int(answer.headers["retry-after"]) for answer in (*ahead, *within)}
    assert max(times) - min(times) <= 1, "those of two refusals"
    for answer in (*ahead, *within):
        answer.headers["retry-after"] = "N"
    assert len({said(answer)[0] for answer in (*ahead, *within)}) == 1
    assert len({frozenset(said(answer)[1]) for answer in (*ahead, *within)}) == 1


def test_what_the_app_would_not_let_in_or_read_learns_nothing_of_a_refusal(flooded: Flooded) -> None:
    for headers, more, status in UNFIT:
        guesses = [flooded.guess(identifier, headers=headers, **more) for identifier in ("ann", "nobody", "carol")]

        assert {answer.status_code for answer in guesses} == {status}
        assert len({said(answer)[0] for answer in guesses}) == 1
    assert not flooded.reached


def test_a_device_token_a_new_access_token_and_what_is_not_known_any_more_reach_the_app(flooded: Flooded) -> None:
    flooded.guess(device_token="one that is none")
    another = bearer("another")
    flooded.guess(headers=another)
    assert len(flooded.reached) == 2

    flooded.guess(headers=another)
    assert len(flooded.reached) == 2
    flooded.now.append(flooded.now[-1] + MEMORY_SECONDS)
    flooded.guess()
    flooded.guess()
    assert len(flooded.reached) == 3

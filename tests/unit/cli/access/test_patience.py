"""What passes by itself is waited out, as long as the answer asks for."""

from collections.abc import Iterator

import httpx
import pytest

from cli.access.patience import ATTEMPTS, LONGEST_PAUSE_SECONDS, PAUSE_CAP_SECONDS, PatientTransport


class Server:
    """Answers in turn, and keeps how long it was waited for."""

    def __init__(self, answers: Iterator[httpx.Response]) -> None:
        self.pauses: list[float] = []
        self.bodies: list[bytes] = []
        self._answers = answers

    def ask(self) -> httpx.Response:
        transport = PatientTransport(httpx.MockTransport(self._answer), self.pauses.append)
        with httpx.Client(transport=transport, base_url="http://muster") as client:
            return client.post("/", json={"purpose": "password-reset"})

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        return next(self._answers)


def refusals(status: int, **headers: str) -> Iterator[httpx.Response]:
    while True:
        yield httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_request_is_sent_again_after_as_long_as_the_answer_says(status: int) -> None:
    once = [httpx.Response(status, headers={"Retry-After": "7"}), httpx.Response(status), httpx.Response(201, text="a")]
    server = Server(iter(once))

    assert server.ask().text == "a"
    assert server.pauses[0] == 7
    assert 0 < server.pauses[1] <= PAUSE_CAP_SECONDS
    assert server.bodies == [b'{"purpose":"password-reset"}'] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_what_stays_is_not_waited_for(status: int) -> None:
    server = Server(refusals(status, Retry_After="1"))

    assert server.ask().status_code == status
    assert not server.pauses


def test_an_end_comes_after_so_many_attempts_and_at_once_where_the_wait_would_be_too_long() -> None:
    busy = Server(refusals(503, Retry_After="1"))
    closed = Server(refusals(429, Retry_After=f"{LONGEST_PAUSE_SECONDS + 1:.0f}"))

    assert (busy.ask().status_code, len(busy.bodies), len(busy.pauses)) == (503, ATTEMPTS, ATTEMPTS - 1)
    assert (closed.ask().status_code, closed.pauses) == (429, [])


@pytest.mark.parametrize("said", ["Mon, 30 Nov 2026 06:00:00 GMT", "-1", "soon", "\u0663"])
def test_what_is_no_number_of_seconds_is_waited_for_as_if_nothing_was_said(said: str) -> None:
    server = Server(iter([httpx.Response(503, headers=[(b"Retry-After", said.encode())]), httpx.Response(201)]))

    assert server.ask().status_code == 201
    assert 0 < server.pauses[0] <= PAUSE_CAP_SECONDS

"""A client's way to an API that waits out what passes by itself: too many requests, a database that is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import httpx

from chassis.lifecycle import Backoff

#: Statuses that pass by themselves.
PASSING: Final = frozenset({408, 429, 502, 503, 504})
#: Attempts at one request: with growing pauses about a minute, as long as a restart takes.
ATTEMPTS: Final = 20
PAUSE_FIRST_SECONDS: Final = 0.25
PAUSE_CAP_SECONDS: Final = 5.0
#: A limit of so many a minute asks for as much; who is told to wait for longer gives up sooner.
LONGEST_PAUSE_SECONDS: Final = 60.0


class PatientTransport(httpx.BaseTransport):
    """Sends a request again, after as long as `Retry-After` says, until it is answered otherwise.

    For requests that may be sent twice. The last answer is handed on, whichever it is; a server that does not answer at
    all is an error at once.
    """

    def __init__(self, inner: httpx.BaseTransport, pause: Callable[[float], None] = time.sleep) -> None:
        """Send by `inner`, and `pause` between two attempts."""
        self._inner = inner
        self._pause = pause

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer."""
        backoff = Backoff(first=PAUSE_FIRST_SECONDS, cap=PAUSE_CAP_SECONDS)
        for _ in range(ATTEMPTS - 1):
            answer = self._inner.handle_request(request)
            seconds = retry_after(answer.headers)
            if answer.status_code not in PASSING or seconds > LONGEST_PAUSE_SECONDS:
                return answer
            answer.close()
            self._pause(max(seconds, backoff.next()))
        return self._inner.handle_request(request)

    def close(self) -> None:
        """Close `inner`."""
        self._inner.close()


def retry_after(headers: httpx.Headers) -> float:
    """The seconds that an answer asks to wait; 0 where it says nothing of it, or a date."""
    said = headers.get("Retry-After", "")
    return float(said) if said.isascii() and said.isdigit() else 0.0

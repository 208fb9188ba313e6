"""The answer of both APIs to bytes that are no HTTP request: a problem like any other, though no app sees them.

A method that HTTP does not know is the likeliest case. uvicorn would answer with a sentence of plain text; only that
answer is replaced here. The connection ends with it, because nobody can tell where a next request would begin.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chassis.http.problems import MALFORMED, Problem, problem_response
from chassis.identifiers import new_id_text
from chassis.telemetry import request_id

_DETAIL: Final = "this is no HTTP/1.1 request: its method, target, headers or framing cannot be read"


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser does not understand, and close the connection."""
        del msg  # uvicorn's plain text
        token = request_id.set(new_id_text())
        try:
            answer = problem_response(Problem(MALFORMED, _DETAIL), instance=self._path())
            headers = [
                *self.server_state.default_headers,
                *answer.raw_headers,
                (b"x-request-id", request_id.get().encode()),
                (b"connection", b"close"),
            ]
        finally:
            request_id.reset(token)
        lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in headers), b""]
        self.transport.write(b"\r\n".join([*lines, bytes(answer.body)]))
        self.transport.close()

    def _path(self) -> str:
        """The target as far as it was read, without its query; empty where the parser stopped before it."""
        url: bytes = getattr(self, "url", b"")
        return url.partition(b"?")[0].decode("latin-1")

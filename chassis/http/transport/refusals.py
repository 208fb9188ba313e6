"""The answers to what no app gets to see, as problems like all others, and what is judged of a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from chassis.http.problems import (
    HEAD_TOO_LARGE,
    INTERNAL,
    MALFORMED,
    NOT_IMPLEMENTED,
    REQUEST_TIMEOUT,
    TARGET_TOO_LONG,
    Problem,
    malformed_header,
    problem_response,
    unavailable,
)
from chassis.http.transport.limits import HEAD_BYTES, HEAD_FIELDS, RATE_SECONDS, TARGET_BYTES
from chassis.identifiers import new_id_text
from chassis.telemetry import request_id

_VERSIONS: Final = frozenset({"1.1", "1.0"})
#: As many as 2^64 has; more are leading zeros.
_LENGTH_DIGITS: Final = 20


def unreadable() -> Problem:
    """The parser does not understand it."""
    return Problem(MALFORMED, "this is no HTTP/1.1 request: its method, target, headers or framing cannot be read")


def broken_off() -> Problem:
    """The client stopped sending."""
    return Problem(MALFORMED, "the request ended before its end")


def head_too_large() -> Problem:
    """Too many bytes or fields."""
    return Problem(
        HEAD_TOO_LARGE, f"a head may have {HEAD_BYTES} bytes and {HEAD_FIELDS} fields at most; send fewer headers"
    )


def target_too_long() -> Problem:
    """The first line."""
    return Problem(TARGET_TOO_LONG, f"path and query may have {TARGET_BYTES} bytes at most; send a shorter query")


def head_too_slow(seconds: float) -> Problem:
    """It has begun, and does not end."""
    return Problem(REQUEST_TIMEOUT, f"the head did not come within {seconds:g} s; send it at once")


def body_too_slow(bytes_per_second: int) -> Problem:
    """It has begun, and does not get on."""
    detail = f"a body must come with {bytes_per_second} bytes a second, over any {RATE_SECONDS} s; send it faster"
    return Problem(REQUEST_TIMEOUT, detail)


def full() -> Problem:
    """More connections than there may be, all at work."""
    return unavailable("this process has as many connections at work as it may have")


def stopping() -> Problem:
    """The process ends before the body does."""
    return unavailable("this process is stopping, and the body had not come whole; nothing was done")


def stopped() -> Problem:
    """The process ends before the answer does."""
    return unavailable("this process is stopping before it had an answer; what was done cannot be told")


def unexpected() -> Problem:
    """A bug of ours that no app has explained."""
    return Problem(INTERNAL, "an unexpected error; the request_id leads the operator to its cause")


def framing_of(version: str, fields: Sequence[tuple[bytes, bytes]]) -> tuple[int | None, bool]:
    """How long the body is, None for chunks, and whether the client awaits a go-ahead to send it.

    Raises:
        Problem: what the parser took leaves open where the request ends, or for whom it is.
    """
    last = dict(fields)
    hosts, codings = int(b"host" in last), int(b"transfer-encoding" in last)
    if len(last) < len(fields):
        names = [name for name, _ in fields]
        hosts, codings = names.count(b"host"), names.count(b"transfer-encoding")
    length = last.get(b"content-length", b"0")
    if version not in _VERSIONS:
        raise Problem(MALFORMED, f"HTTP/{version} is not spoken here; send HTTP/1.1")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise malformed_header("Host", "comes twice; send it once" if hosts else "is missing; HTTP/1.1 asks for it")
    if len(length) > _LENGTH_DIGITS:
        raise malformed_header("Content-Length", f"has more than {_LENGTH_DIGITS} digits; send the body's length")
    if codings and (codings > 1 or last[b"transfer-encoding"].lower() != b"chunked"):
        # The parser looks only whether the last one is `chunked`, and would give what is compressed as plain.
        raise Problem(NOT_IMPLEMENTED, "Transfer-Encoding: chunked alone is understood; send the body uncompressed")
    awaits = version == "1.1" and last.get(b"expect", b"").lower() == b"100-continue"
    return (None if codings else int(length)), awaits


def explained(problem: Problem, *, instance: str) -> Response:
    """A problem's answer under a request id of its own; the connection ends with it."""
    token = request_id.set(new_id_text())
    try:
        answer = problem_response(problem, instance=instance)
        answer.headers.update({"X-Request-Id": request_id.get(), "Connection": "close"})
    finally:
        request_id.reset(token)
    return answer

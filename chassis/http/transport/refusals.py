"""The answers to what no app gets to see, as problems like all others, and what is judged of a head."""

from __future__ import annotations

import re
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
_LENGTH: Final = re.compile(rb"\ncontent-length:", re.IGNORECASE)
_TWICE: Final = "comes twice; send it once"
#: RFC 9112, section 3.2: a name or an address, and a port; nobody's credentials, no path.
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(:[0-9]*)?")
#: Headers of which each has one value: of two, each of two readers could take another. Lists, which may come on several
#: lines (RFC 9110, section 5.3), are not among them.
SINGLE: Final = frozenset(
    {
        *(b"authorization", b"content-length", b"content-type", b"cookie", b"expect", b"host", b"hx-request"),
        *(b"idempotency-key", b"last-event-id", b"origin", b"sec-fetch-site", b"traceparent", b"x-request-id"),
    }
)


def unreadable() -> Problem:
    """The parser does not understand it."""
    return Problem(MALFORMED, "this is no HTTP/1.1 request: its method, target, headers or framing cannot be read")


def unreadable_head(head: bytes) -> Problem:
    """The parser does not understand it; what it refuses before we can, a length that comes twice, is named."""
    if len(_LENGTH.findall(head)) > 1:
        return malformed_header("Content-Length", _TWICE)
    return unreadable()


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
    if version not in _VERSIONS:
        raise Problem(MALFORMED, f"HTTP/{version} is not spoken here; send HTTP/1.1")
    if len(last) < len(fields):
        _refuse_repeated([name for name, _ in fields])
    _judge_host(last.get(b"host"), version)
    length = last.get(b"content-length", b"0")
    if len(length) > _LENGTH_DIGITS:
        raise malformed_header("Content-Length", f"has more than {_LENGTH_DIGITS} digits; send the body's length")
    coding = last.get(b"transfer-encoding")
    if coding is not None:
        _judge_coding(coding, version)
    awaits = version == "1.1" and last.get(b"expect", b"").lower() == b"100-continue"
    return (int(length) if coding is None else None), awaits


def _refuse_repeated(names: list[bytes]) -> None:
    for name in names:
        if name in SINGLE and names.count(name) > 1:
            raise malformed_header(name.decode("ascii").title(), _TWICE)
    if names.count(b"transfer-encoding") > 1:
        raise _not_chunked_alone()


def _judge_host(host: bytes | None, version: str) -> None:
    if host is None:
        if version == "1.1":
            raise malformed_header("Host", "is missing; HTTP/1.1 asks for it")
    elif not _HOST.fullmatch(host):
        raise malformed_header("Host", "is no name or address with or without a port; send one, as in example.com:8000")


def _judge_coding(coding: bytes, version: str) -> None:
    if version == "1.0":  # RFC 9112, section 6.1: who stands between may have taken the body for something else
        raise malformed_header("Transfer-Encoding", "is not known to HTTP/1.0; send HTTP/1.1 or a Content-Length")
    if coding.lower() != b"chunked":
        # The parser looks only whether the last one is `chunked`, and would give what is compressed as plain.
        raise _not_chunked_alone()


def _not_chunked_alone() -> Problem:
    return Problem(NOT_IMPLEMENTED, "Transfer-Encoding: chunked alone is understood; send the body uncompressed")


def explained(problem: Problem, *, instance: str) -> Response:
    """A problem's answer under a request id of its own; the connection ends with it."""
    token = request_id.set(new_id_text())
    try:
        answer = problem_response(problem, instance=instance)
        answer.headers.update({"X-Request-Id": request_id.get(), "Connection": "close"})
    finally:
        request_id.reset(token)
    return answer

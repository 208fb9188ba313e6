"""What is refused by its head, and what of a head is ignored, as raw bytes over a socket."""

import re
from pathlib import Path

import pytest

from chassis.http.transport import refusals
from chassis.http.transport.connection import HttpConnection
from chassis.http.transport.limits import HEAD_BYTES, HEAD_FIELDS, PARSED_BYTES, TARGET_BYTES
from tests.unit.chassis.transport.serving import listening

ROOT = Path(__file__).parents[4]
#: The packages that read headers.
SERVED = ("chassis", "command_api", "query_api", "event_api", "console")
HOST = b"Host: x\r\n"
WRONG_HOSTS = (
    b"",
    b" ",
    b" a b",
    b" a/b",
    b" a@c",
    b" a/b@c",
    b" a:b",
    b" [::1",
    b" ::1",
    b" a?b",
    b" \xc3\xa4",
    b" a,b/c",
)


def head(*lines: bytes, first: bytes = b"GET /a HTTP/1.1", host: bytes = HOST) -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def padded(size: int) -> bytes:
    """A head of exactly so many bytes."""
    empty = head(b"X-Long: ")
    return head(b"X-Long: " + b"x" * (size - len(empty)))


@pytest.mark.parametrize(
    ("request_", "status", "slug"),
    [
        (padded(HEAD_BYTES + 1), 431, "head-too-large"),
        (head(*[b"X-Field: 1"] * HEAD_FIELDS), 431, "head-too-large"),
        (head(first=b"GET /" + b"x" * TARGET_BYTES + b" HTTP/1.1"), 414, "target-too-long"),
        (b"GET /" + b"x" * (64 * 1024 * 1024), 414, "target-too-long"),
        (head()[:-2] + b"X-Endless: " + b"x" * (64 * 1024 * 1024), 431, "head-too-large"),
        (head(host=b""), 400, "malformed-request"),
        (head(host=HOST * 2), 400, "malformed-request"),
        *[(head(host=b"Host:%b\r\n" % value), 400, "malformed-request") for value in WRONG_HOSTS],
        (head(first=b"GET /a HTTP/1.0", host=b"Host: a b\r\n"), 400, "malformed-request"),
        (head(b"Transfer-Encoding: chunked", first=b"GET /a HTTP/1.0") + b"0\r\n\r\n", 400, "malformed-request"),
        (head(b"Content-Length: " + b"0" * 5000 + b"5") + b"12345", 400, "malformed-request"),
        (head(b"Content-Length: 5", b"Content-Length: 5") + b"12345", 400, "malformed-request"),
        (head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"12345", 400, "malformed-request"),
        (head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501, "not-implemented"),
        (head(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 501, "not-implemented"),
        (head(first=b"GET /a HTTP/2.0"), 400, "malformed-request"),
        (head(first=b"CONNECT a:80 HTTP/1.1"), 400, "malformed-request"),
        (b"GET / HTTP/1.1\nHost: x\n\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed-request"),
        (head(b"X-Folded: a\r\n b"), 400, "malformed-request"),
        (b"\x16\x03\x01\x02\x00", 400, "malformed-request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed-request"),
    ],
    ids=range(20 + len(WRONG_HOSTS)),
)
async def test_a_head_that_is_refused_is_answered_with_a_problem_and_the_end(
    request_: bytes, status: int, slug: str
) -> None:
    async with listening() as listener, await listener.connect() as client:
        answer = await client.asks(request_)
        is_over = await client.is_over()

    assert (answer.status, answer.problem) == (status, slug)
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"] == answer.document["request_id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert is_over


async def test_of_thousands_of_fields_few_go_to_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = list[int]()
    parse = HttpConnection._parse

    def noting(self: HttpConnection, part: bytes) -> None:
        parsed.append(len(part))
        parse(self, part)

    monkeypatch.setattr(HttpConnection, "_parse", noting)
    async with listening() as listener:
        answer = await listener.answer_to(head(*[b"X-Many: 1"] * 5000))

    assert (answer.problem, answer.document["instance"]) == ("head-too-large", "/a")
    assert sum(parsed) <= PARSED_BYTES


@pytest.mark.parametrize(
    "request_",
    [
        padded(HEAD_BYTES),
        head(*[b"X-Field: 1"] * (HEAD_FIELDS - 1)),
        head(first=b"GET /" + b"x" * (TARGET_BYTES - 1) + b" HTTP/1.1"),
        head(first=b"GET /a HTTP/1.0", host=b""),
        head(first=b"GET http://x/a HTTP/1.1"),
        b"\r\n\r\n" + head(),
        *[
            head(host=b"Host: %b\r\n" % value)
            for value in (b"a.b:80", b"a_b", b"[::1]", b"[::1]:80", b"a:", b"1.2.3.4")
        ],
    ],
)
async def test_a_head_at_the_limit_is_served(request_: bytes) -> None:
    async with listening() as listener:
        assert (await listener.answer_to(request_)).status == 200


#: Written out, so that one that is forgotten where they are refused is missed here.
SINGLE = (
    *("authorization", "content-length", "content-type", "cookie", "expect", "host", "hx-request", "idempotency-key"),
    *("last-event-id", "origin", "sec-fetch-site", "traceparent", "x-request-id"),
)
LISTS = ("accept", "content-encoding", "if-match", "if-none-match", "prefer", "x-unknown")


@pytest.mark.parametrize("name", SINGLE)
async def test_a_header_of_one_value_that_comes_twice_is_named(name: str) -> None:
    line = f"{name}: 1".encode()
    async with listening() as listener:
        answer = await listener.answer_to(head(line, line.upper(), host=b"" if name == "host" else HOST))

    assert (answer.status, answer.problem) == (400, "malformed-request")
    assert answer.document["errors"] == [{"detail": "comes twice; send it once", "header": name.title()}]


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_may_come_on_several_lines(name: str) -> None:
    line = f"{name}: 1".encode()
    async with listening() as listener:
        assert (await listener.answer_to(head(line, line))).status == 200


#: How a header is read of which there is one; lists are read with `getlist`, or joined.
ONE = re.compile(r"""(?:header\(scope, b|headers\.get\(b?|headers\[b?)["']([a-z-]+)["']|(\.cookies)\b""")


def test_every_header_of_which_one_is_read_is_refused_twice() -> None:
    """A header of ours that is none of these is a list, or one that the transport has to refuse."""
    texts = [path.read_text(encoding="utf-8") for package in SERVED for path in (ROOT / package).rglob("*.py")]
    read = {"cookie" if cookies else name for text in texts for name, cookies in ONE.findall(text)}

    assert read >= {"content-type", "cookie", "hx-request", "idempotency-key", "origin"}
    assert read - set(LISTS) <= set(SINGLE)
    assert {name.decode() for name in refusals.SINGLE} == set(SINGLE)


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
@pytest.mark.parametrize("name", [b"Upgrade", b"uPGRADE"])
async def test_an_offer_to_upgrade_is_ignored_and_the_body_read(upgrade: bytes, name: bytes) -> None:
    offer = (b"Connection: Upgrade, HTTP2-Settings", name + b": " + upgrade, b"HTTP2-Settings: AAMAAABk")
    body = b'{"a":1}'
    by_length = head(*offer, b"Content-Length: 7", first=b"POST /a HTTP/1.1") + body
    in_chunks = head(*offer, b"Transfer-Encoding: chunked", first=b"POST /a HTTP/1.1") + b"7\r\n" + body
    async with listening() as listener, await listener.connect() as client:
        answers = [await client.asks(by_length), await client.asks(in_chunks + b"\r\n0\r\n\r\n")]
        bare = await client.asks(head(*offer))

    assert [answer.document["body"] for answer in answers] == [body.decode()] * 2
    assert "upgrade" not in answers[0].document["headers"]
    assert bare.status == 200


async def test_requests_in_pieces_of_any_size_are_the_same() -> None:
    first = (
        head(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3", first=b"PUT /a?b=%20c HTTP/1.1") + b"abc"
    )
    second = head(b"Transfer-Encoding: chunked", first=b"POST /a HTTP/1.1") + b"3\r\nabc\r\n0\r\n\r\n"
    async with listening() as listener:
        async with await listener.connect() as client:
            whole = [await client.asks(first), await client.asks(second)]
        async with await listener.connect() as client:
            for byte in first + second:
                await client.send(bytes([byte]))
            pieces = [await client.answer(), await client.answer()]

    assert [answer.document for answer in pieces] == [answer.document for answer in whole]
    assert [answer.document["body"] for answer in whole] == ["abc", "abc"]


async def test_fields_after_the_last_chunk_are_no_headers_and_have_an_end() -> None:
    chunked = head(b"Transfer-Encoding: chunked", first=b"POST /a HTTP/1.1") + b"1\r\na\r\n0\r\n"
    async with listening() as listener:
        answer = await listener.answer_to(chunked + b"Authorization: Bearer x\r\n\r\n")
        endless = await listener.answer_to(chunked + b"X-Endless: " + b"x" * (1024 * 1024))

    assert "authorization" not in answer.document["headers"]
    assert (endless.status, endless.problem) == (431, "head-too-large")


async def test_a_chunk_that_cannot_be_read_is_a_problem() -> None:
    async with listening() as listener:
        answer = await listener.answer_to(head(b"Transfer-Encoding: chunked") + b"zz\r\n")

    assert (answer.status, answer.problem) == (400, "malformed-request")


@pytest.mark.parametrize(("version", "awaits"), [("1.0", False), ("1.1", True)])
def test_a_go_ahead_is_sent_to_nobody_who_does_not_know_it(version: str, awaits: bool) -> None:
    fields = [(b"host", b"x"), (b"expect", b"100-Continue"), (b"content-length", b"5")]

    assert refusals.framing_of(version, fields) == (5, awaits)

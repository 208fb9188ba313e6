"""Bodies in chunks: they end where the parser says, and what a chunk holds is not looked at."""

import asyncio

import httptools
import pytest
from httptools.parser.errors import HttpParserError
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.http.transport.chunks import Chunks
from chassis.http.transport.connection import HttpConnection
from chassis.http.transport.exchange import Exchange
from chassis.http.transport.limits import HEAD_BYTES, PARSED_BYTES
from tests.unit.chassis.transport.serving import listening

HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
CONTENT = st.binary(max_size=40) | st.lists(st.sampled_from([b"\r\n", b"0\r\n\r\n", b"\n", b"x"])).map(b"".join)
EXTENSIONS = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b 0"', b" ", b"\t", b";\n", b"x", b"_0"])
LINE_ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b""])
FIELDS = st.lists(st.sampled_from([b"X-Field: 0\r\n", b"X:\r\n", b" folded\r\n", b"\n", b"0\r\n"]), max_size=3)


@st.composite
def chunk(draw: st.DrawFn) -> bytes:
    content = draw(CONTENT)
    size = draw(st.sampled_from([b"%x", b"%X", b"%03x"])) % len(content)
    return size + draw(EXTENSIONS) + draw(LINE_ENDS) + content + draw(LINE_ENDS)


@st.composite
def body(draw: st.DrawFn) -> bytes:
    last = draw(st.sampled_from([b"0", b"0000", b"0;a"])) + b"\r\n" + b"".join(draw(FIELDS)) + b"\r\n"
    return b"".join(draw(st.lists(chunk(), max_size=5))) + last


class Told:
    """What the parser tells."""

    is_whole = False

    def on_message_complete(self) -> None:
        self.is_whole = True


def end_for_the_parser(sent: bytes) -> int | None:
    """After how many bytes it has the body whole; None where it takes none."""
    told = Told()
    parser = httptools.HttpRequestParser(told)
    parser.feed_data(HEAD)
    try:
        for at in range(len(sent)):
            parser.feed_data(sent[at : at + 1])
            if told.is_whole:
                return at + 1
    except HttpParserError:
        pass
    return None


def end_in_pieces(sent: bytes, size: int) -> int:
    chunks, end = Chunks(), 0
    for begin in range(0, len(sent), size):
        piece = sent[begin : begin + size]
        taken = chunks.end_in(piece, 0)
        end += taken
        if taken < len(piece):
            break
    return end


@given(body(), st.integers(1, 50))
@example(b"2\r\n\r\n\r\n0\r\n\r\n", 1)
@example(b"1\r\nx\r\n00\r\n\r\n", 50)
def test_a_body_ends_where_the_parser_has_it_whole(sent: bytes, size: int) -> None:
    end = end_for_the_parser(sent + NEXT)
    if end is not None:
        assert end_in_pieces(sent + NEXT, size) == end


@pytest.mark.parametrize(
    "sent",
    [
        b"f4240\r\n" + b"\r\n" * 500_000 + b"\r\n",
        b"2\r\n\r\n\r\n" * 100_000,
        b"1;a=b\r\n\n\r\n" * 50_000,
    ],
    ids=["one chunk of line ends", "chunks of one line end", "chunks with extensions"],
)
async def test_it_is_parsed_by_the_piece_and_few_pieces_in_a_turn(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    reads, given_to_parser, in_turns = list[int](), list[int](), [0]
    data_received, read_body, loop = HttpConnection.data_received, HttpConnection._read_body, asyncio.get_running_loop()

    def noting_read(self: HttpConnection, data: bytes) -> None:
        reads.append(len(data))
        data_received(self, data)

    def noting_body(self: HttpConnection, exchange: Exchange) -> None:
        begin = self._at
        read_body(self, exchange)
        given_to_parser.append(self._at - begin)
        in_turns[-1] += self._at - begin

    def next_turn() -> None:
        in_turns.append(0)
        loop.call_soon(next_turn)

    monkeypatch.setattr(HttpConnection, "data_received", noting_read)
    monkeypatch.setattr(HttpConnection, "_read_body", noting_body)
    async with listening() as listener, await listener.connect() as client:
        next_turn()
        answer = await client.asks(HEAD + sent + b"0\r\n\r\n")

    assert answer.status == 200
    # The rest of a read, and what was read next.
    assert max(in_turns) <= 2 * PARSED_BYTES
    assert len(given_to_parser) <= len(reads) + len(sent) / PARSED_BYTES + 1


@pytest.mark.parametrize("begun", [b"5;a=", b"0\r\nX: ", b"000"])
async def test_what_is_no_content_has_an_end(begun: bytes) -> None:
    endless = begun + (b"0" if begun == b"000" else b"x") * (HEAD_BYTES + 1)
    async with listening() as listener:
        answer = await listener.answer_to(HEAD + b"1\r\nx\r\n" + endless)

    assert (answer.status, answer.problem) == (431, "head-too-large")

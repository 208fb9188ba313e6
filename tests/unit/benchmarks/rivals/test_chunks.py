"""The load generator counts answers that come in chunks, as some rivals send them, and says where none comes."""

import asyncio
from typing import cast

import pytest

from benchmarks.running.load import closed_loop, request
from benchmarks.running.rounds import NoFigureError

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class InChunks(asyncio.Protocol):
    """Answers each request in pieces, of which only the last one ends the answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, _: bytes) -> None:
        self.transport.write(HEAD + b"3\r\n[1,\r\n")
        asyncio.get_running_loop().call_soon(self.transport.write, b"2\r\n2]\r\n0\r\n\r\n")


async def test_an_answer_in_chunks_ends_with_an_empty_one() -> None:
    asked = 0

    def following() -> bytes:
        nonlocal asked
        asked += 1
        return request("/")

    async with await asyncio.get_running_loop().create_server(InChunks, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        measured = await closed_loop(port, following, connections=1, seconds=0.05)

    # The first is not counted, and the last may be on its way.
    assert len(measured.latencies) in range(asked - 3, asked)
    assert set(measured.statuses) == {200}


class HangsUp(asyncio.Protocol):
    """Ends each connection without an answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def test_a_server_that_answers_nothing_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.running.load.LAST_ANSWER_SECONDS", 0.1)
    async with await asyncio.get_running_loop().create_server(HangsUp, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoFigureError, match="no answer came"):
            await closed_loop(port, lambda: request("/"), connections=1, seconds=0.05)

"""`muster import` holds one chunk, however long the file is: a pipe of many lines takes no more memory than one of few.

The API's part is played by a socket that answers every line as created: what is measured is the command alone.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.importing.chunks import CHUNK_LINES

FEW, MANY = 10 * CHUNK_LINES, 100 * CHUNK_LINES
#: What is read and answered beside the chunk may differ by its buffers; 20 bytes kept of each line would be more.
SLACK_KIB = 3072
RUN_SECONDS = 120
PROGRAM = """
import resource, sys
from cli.main import app
try:
    app()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=1024)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await _head(reader):
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        count = (await reader.readexactly(length)).count(b"\n")
        lines = [b'{"line":%d,"status":"created","id":"%036d"}\n' % (number, number) for number in range(1, count + 1)]
        body = b"".join([*lines, b'{"complete":true,"created":%d,"unchanged":0,"failed":0}\n' % count])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()
    writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """A request's head; empty when the client has gone."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def _peak_kib(url: str, folder: Path, lines: int) -> int:
    """The most memory that an import of so many lines, written into its standard input, has ever held."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, "import", "-", "--json", "--url", url),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None

    async def feed(stdin: asyncio.StreamWriter) -> None:
        for number in range(lines):
            stdin.write(b'{"email":"user%d@example.com","username":"user%d","password_hash":"x"}\n' % (number, number))
            if not number % 100:
                await stdin.drain()
        stdin.close()

    async with asyncio.timeout(RUN_SECONDS):
        _, (out, told) = await asyncio.gather(feed(process.stdin), _output(process))
    assert b'"created": %d' % lines in out, told.decode()
    return int(told.split()[-1])


async def _output(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    out, told = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await process.wait()
    return out, told


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kibibytes on Linux only")
async def test_ten_times_as_many_lines_take_no_more_memory(url: str, tmp_path: Path) -> None:
    few = await _peak_kib(url, tmp_path, FEW)
    many = await _peak_kib(url, tmp_path, MANY)

    assert many <= few + SLACK_KIB

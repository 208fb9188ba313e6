"""What a served API answers before any app is asked."""

import asyncio
import json
from email import message_from_bytes

import pytest
from starlette.applications import Starlette
from uvicorn.server import ServerState

from cli.processes.serve import server_config

READ_SECONDS = 5


def nothing() -> Starlette:
    return Starlette()


async def answer_to(request: bytes) -> bytes:
    """Everything that comes back on a connection of its own."""
    config = server_config("tests.unit.cli.test_serve:nothing", host="127.0.0.1", port=0, workers=1)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: config.http_protocol_class(config, ServerState(), {}), "127.0.0.1", 0)  # type: ignore[call-arg]
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(request)
        answered = await asyncio.wait_for(reader.read(), READ_SECONDS)
        writer.close()
        await writer.wait_closed()
    return answered


@pytest.mark.parametrize(
    ("request_", "instance"),
    [
        (b"FOO /users HTTP/1.1\r\nHost: x\r\n\r\n", ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", ""),
        (b"GET /users?x=1 HTTP/1.1\r\nHost x\r\n\r\n", "/users"),
        (b"GET /users HTTP/1.1\r\nContent-Length: many\r\n\r\n", "/users"),
    ],
)
async def test_what_is_no_http_request_is_answered_with_a_problem(request_: bytes, instance: str) -> None:
    head, _, body = (await answer_to(request_)).partition(b"\r\n\r\n")
    status, _, rest = head.partition(b"\r\n")
    headers, document = message_from_bytes(rest), json.loads(body)

    assert status == b"HTTP/1.1 400 Bad Request"
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert (document["type"], document["status"], document["instance"]) == (
        "/problems/malformed-request",
        400,
        instance,
    )
    assert document["request_id"] == headers["x-request-id"]

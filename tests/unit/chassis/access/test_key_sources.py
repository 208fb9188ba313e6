"""Key sets are found in a file, at an address, and through the issuer's metadata, and nowhere else."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from chassis.access import key_sources
from chassis.access.key_sources import UnusableAnswerError, key_source
from tests.unit.chassis.access.forging import key_set

OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
Answers = Callable[[str], dict[str, bytes]]


@asynccontextmanager
async def issuer_at(answers: Answers, *, status: int = 200) -> AsyncIterator[str]:
    """A server that answers paths; the others are 404."""
    base = ""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        body = answers(base).get(path)
        head = f"HTTP/1.1 {404 if body is None else status} X\r\nLocation: /jwks\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield base


def metadata(issuer: str, jwks: str) -> bytes:
    return json.dumps({"issuer": issuer, "jwks_uri": jwks}).encode()


async def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    fetch = key_source(issuer="muster-local", file=file, url=None)
    file.write_bytes(b"first")

    assert await fetch() == b"first"
    file.write_bytes(b"second")
    assert await fetch() == b"second"


async def test_an_address_is_asked() -> None:
    async with issuer_at(lambda _: {"/jwks": key_set()}) as base:
        assert await key_source(issuer="any", file=None, url=f"{base}/jwks")() == key_set()


async def test_the_openid_metadata_leads_to_the_keys() -> None:
    def answers(base: str) -> dict[str, bytes]:
        issuer = f"{base}/realms/shop"
        return {f"/realms/shop{OPENID}": metadata(issuer, f"{base}/jwks"), "/jwks": key_set()}

    async with issuer_at(answers) as base:
        assert await key_source(issuer=f"{base}/realms/shop", file=None, url=None)() == key_set()


@pytest.mark.parametrize("openid", [None, b"<!doctype html>", b"[]", b"{}", b"{" * 9000, b"\xff"])
async def test_without_openid_the_oauth_metadata_does(openid: bytes | None) -> None:
    """Also where a web application answers 200 with a page, whatever it is asked for."""

    def answers(base: str) -> dict[str, bytes]:
        issuer = f"{base}/realms/shop"
        page = {} if openid is None else {f"/realms/shop{OPENID}": openid}
        return {f"{OAUTH}/realms/shop": metadata(issuer, f"{base}/jwks"), "/jwks": key_set(), **page}

    async with issuer_at(answers) as base:
        assert await key_source(issuer=f"{base}/realms/shop", file=None, url=None)() == key_set()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: metadata("https://other.example.com", "https://x/jwks"), "of another issuer"),
        (lambda base: metadata(base, "http://192.0.2.1/jwks"), "neither https"),
        (lambda base: metadata(base, "file:///etc/passwd"), "neither https"),
        (lambda _: b"<html>", "names no issuer"),
        (lambda _: b"[]", "names no issuer"),
    ],
)
async def test_metadata_that_cannot_be_trusted_leads_nowhere(answer: Callable[[str], bytes], reason: str) -> None:
    async with issuer_at(lambda base: {OPENID: answer(base)}) as base:
        with pytest.raises(UnusableAnswerError, match=reason):
            await key_source(issuer=base, file=None, url=None)()


async def test_a_proxy_is_asked_for_nothing_that_it_could_read_or_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12\r\n\r\nof the proxy")
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(proxy, "127.0.0.1", 0) as server,
        issuer_at(lambda base: {OPENID: metadata(base, f"{base}/jwks"), "/jwks": key_set()}) as base,
    ):
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)

        assert await key_source(issuer=base, file=None, url=None)() == key_set()
        assert await key_source(issuer="any", file=None, url=f"{base}/jwks")() == key_set()
        assert asked == []

        with pytest.raises(httpx.HTTPError):
            await key_source(issuer="any", file=None, url="https://login.example.com/jwks")()
        assert asked == [b"CONNECT login.example.com:443 HTTP/1.1"], "https goes through it, unread"


async def test_where_openid_names_another_issuer_nothing_else_is_asked() -> None:
    def answers(base: str) -> dict[str, bytes]:
        return {OPENID: metadata(f"{base}/other", f"{base}/jwks"), OAUTH: metadata(base, f"{base}/jwks")}

    async with issuer_at(answers) as base:
        with pytest.raises(UnusableAnswerError, match="of another issuer"):
            await key_source(issuer=base, file=None, url=None)()


async def test_redirects_are_not_followed() -> None:
    async with issuer_at(lambda _: {"/jwks": key_set(), "/moved": b""}, status=302) as base:
        with pytest.raises(UnusableAnswerError, match="answered 302"):
            await key_source(issuer="any", file=None, url=f"{base}/moved")()


async def test_an_answer_has_a_limit() -> None:
    async with issuer_at(lambda _: {"/jwks": b"x" * (512 * 1024 + 1)}) as base:
        with pytest.raises(UnusableAnswerError, match="more than"):
            await key_source(issuer="any", file=None, url=f"{base}/jwks")()


async def test_a_client_is_made_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the system's authorities takes up to a quarter of a second, in which the loop has to serve."""
    made_in: list[threading.Thread] = []
    make = key_sources.issuer_client

    def make_and_tell() -> httpx.AsyncClient:
        made_in.append(threading.current_thread())
        return make()

    monkeypatch.setattr(key_sources, "issuer_client", make_and_tell)
    async with issuer_at(lambda _: {"/jwks": key_set()}) as base:
        await key_source(issuer="any", file=None, url=f"{base}/jwks")()

    assert made_in
    assert threading.main_thread() not in made_in

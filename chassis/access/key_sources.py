"""Where an issuer's key set comes from: a file, an address, or what the issuer's metadata names.

Metadata is OpenID Connect Discovery 1.0's, else RFC 8414's, and must name the same issuer as the settings.
Addresses are https, or http on this machine; redirects are not followed, and an answer has a limit. A proxy of the
environment is used for https alone, which it cannot read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from anyio import to_thread

from chassis.access.issuer_keys import Fetch
from chassis.http.loopback import is_loopback

if TYPE_CHECKING:
    from httpx import AsyncClient

#: A key set, or metadata: some KiB.
ANSWER_BYTES: Final = 512 * 1024
#: One request; the whole fetch has a limit of its own.
REQUEST_SECONDS: Final = 5.0
_OPENID: Final = "/.well-known/openid-configuration"
_OAUTH: Final = "/.well-known/oauth-authorization-server"


class UnusableAnswerError(Exception):
    """The issuer answered, but not with what was asked for."""


class AnotherIssuerError(UnusableAnswerError):
    """The metadata names another issuer."""


def key_source(*, issuer: str, file: Path | None, url: str | None) -> Fetch:
    """Return the function that fetches the key set from `file`, `url`, or where the issuer's metadata says."""
    if file is not None:
        return partial(to_thread.run_sync, file.read_bytes)
    return partial(_fetch_from, url) if url else partial(_discover, issuer)


def trustworthy(url: str | None) -> str | None:
    """Return a setting's address unchanged, if it has one.

    Raises:
        ValueError: others could change what comes from there.
    """
    if url is not None and not is_trustworthy(url):
        raise ValueError("must be an https address, or http on this machine")
    return url


def is_trustworthy(url: str) -> bool:
    """Tell whether keys may come from there: https, or http on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


async def _fetch_from(url: str) -> bytes:
    async with await _client() as client:
        return await _get(client, url)


async def metadata_of(issuer: str) -> dict[str, Any]:
    """The issuer's metadata.

    Raises:
        UnusableAnswerError: it answers with something else, or with another issuer's.
        httpx.HTTPError: it does not answer.
    """
    async with await _client() as client:
        return await _find_metadata(client, issuer)


def address_in(metadata: Mapping[str, Any], name: str) -> str:
    """An address that the metadata names.

    Raises:
        UnusableAnswerError: it is not there, or is neither https nor http on this machine.
    """
    url = metadata.get(name)
    if not isinstance(url, str):
        raise UnusableAnswerError(f"the issuer's metadata names no {name}")
    if not is_trustworthy(url):
        raise UnusableAnswerError(f"the issuer's {name} is neither https nor http on this machine")
    return url


async def _discover(issuer: str) -> bytes:
    async with await _client() as client:
        return await _get(client, address_in(await _find_metadata(client, issuer), "jwks_uri"))


async def _find_metadata(client: AsyncClient, issuer: str) -> dict[str, Any]:
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    openid = f"{parts.scheme}://{parts.netloc}{path}{_OPENID}"
    oauth = f"{parts.scheme}://{parts.netloc}{_OAUTH}{path}"
    try:
        return _read_metadata(await _get(client, openid), issuer)
    except AnotherIssuerError:
        raise
    except UnusableAnswerError as error:
        # A web application answers 200 and a page for addresses that it does not know.
        reason = error
    try:
        return _read_metadata(await _get(client, oauth), issuer)
    except UnusableAnswerError as error:
        raise UnusableAnswerError(f"{reason}; {error}") from error


def _read_metadata(answer: bytes, issuer: str) -> dict[str, Any]:
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise UnusableAnswerError("the issuer's metadata is no JSON, and names no issuer") from error
    if not isinstance(said, dict) or "issuer" not in said:
        raise UnusableAnswerError("the issuer's metadata names no issuer")
    if said["issuer"] != issuer:
        raise AnotherIssuerError("the issuer's metadata is that of another issuer")
    return said


async def _client() -> AsyncClient:
    """Make a client in a thread: its import and the authorities that it reads take up to a quarter of a second."""
    return await to_thread.run_sync(issuer_client)


def issuer_client() -> AsyncClient:
    """Make a client for questions to an issuer, which takes up to a quarter of a second."""
    # Imported here, so that a process whose keys come from a file does not pay for it.
    from httpx import AsyncClient  # noqa: PLC0415

    return AsyncClient(
        timeout=REQUEST_SECONDS,
        follow_redirects=False,
        headers={"Accept": "application/json"},
        # http stays on this machine: a proxy could read it, and answer it.
        mounts={"http://": None},
    )


async def _get(client: AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url) as answer:
        if answer.status_code != 200:
            raise UnusableAnswerError(f"{url} answered {answer.status_code}")
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > ANSWER_BYTES:
                raise UnusableAnswerError(f"{url} answered more than {ANSWER_BYTES} bytes")
        return bytes(body)

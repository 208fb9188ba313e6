"""The token that a command of ours sends: from MUSTER_TOKEN, MUSTER_TOKEN_FILE, or of the local stack's issuer."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from chassis.clock import utc_now
from cli.access.scopes import SCOPES
from cli.access.token import DEFAULT_SUBJECT
from cli.stack.discovery import issuer_folder, running_stack, stack_folder
from local_stack.issuer import open_issuer
from local_stack.issuer_files import KEY_SET, NoIssuerError

if TYPE_CHECKING:
    from local_stack.stack_file import Stack

TOKEN: Final = "MUSTER_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE: Final = "MUSTER_TOKEN_FILE"  # noqa: S105 - a variable's name
#: Tokens that a command makes for itself; a longer command makes another.
_LIFETIME: Final = timedelta(minutes=10)
_RENEW_BEFORE: Final = timedelta(minutes=1)
#: The form of what may follow `Bearer` (RFC 6750, section 2.1): nothing else may be put into a header.
_SYNTAX: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
#: The remedy of a 401 or 403, for whoever runs a command.
REMEDY: Final = (
    f"{TOKEN}, or the file that {TOKEN_FILE} names, must hold a token with the scope that is needed; `muster token`"
    " prints one of a local stack, whose commands find it by themselves at http://127.0.0.1 alone"
)


class NoTokenError(Exception):
    """The token that is to be sent cannot be had; the message is a sentence, and never repeats it."""


class Bearer(httpx.Auth):
    """Puts a token on each request; the local stack's goes to the stack's own addresses only."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is the local stack's; by default the one that every command uses."""
        self._folder = folder or stack_folder()
        self._made: tuple[str, datetime] | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Send the request with a token, where there is one for it.

        Raises:
            NoTokenError: as `token_for`.
        """
        token = self.token_for(request.url)
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        yield request

    def token_for(self, url: httpx.URL) -> str | None:
        """The token for an address, read anew for each request.

        Raises:
            NoTokenError: the one that the environment names is none, or cannot be read; or the stack's issuer cannot.
        """
        if token := os.environ.get(TOKEN):
            return _checked(token, TOKEN)
        if file := os.environ.get(TOKEN_FILE):
            return _checked(_read(Path(file)), f"{TOKEN_FILE} ({file})")
        stack = running_stack(self._folder)
        return self._own_token(stack) if stack and _trusts_its_own(stack) and _is_own(url, stack) else None

    def _own_token(self, stack: Stack) -> str:
        now = utc_now()
        if self._made is None or self._made[1] - _RENEW_BEFORE <= now:
            try:
                issuer = open_issuer(issuer_folder(self._folder))
            except NoIssuerError as error:
                raise NoTokenError(f"The local stack has no token: {error}") from error
            token = issuer.token(
                subject=DEFAULT_SUBJECT,
                scopes=SCOPES,
                lifetime=_LIFETIME,
                now=now,
                audience=stack.settings["AUTH_AUDIENCE"],
            )
            self._made = token, now + _LIFETIME
        return self._made[0]


def bearer_for(address: str) -> Bearer:
    """The tokens for requests to this address.

    Raises:
        NoTokenError: as each request would, but before a command has begun anything.
    """
    found = Bearer()
    found.token_for(httpx.URL(address))
    return found


def _trusts_its_own(stack: Stack) -> bool:
    """Whether the stack's APIs trust the stack's own issuer, and not another one or everybody."""
    return stack.settings.get("AUTH_JWKS_FILE") == str(issuer_folder(Path(stack.folder)) / KEY_SET)


def _is_own(url: httpx.URL, stack: Stack) -> bool:
    """Whether an API of the stack listens there, whatever addresses it is told to give to others."""
    ports = {value for name, value in stack.settings.items() if name.endswith("_API_PORT")}
    return (url.scheme, url.host) == ("http", "127.0.0.1") and str(url.port or 80) in ports


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise NoTokenError(f"{TOKEN_FILE} names {file}, which cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise NoTokenError(f"{TOKEN_FILE} names {file}, which holds no token: it is no text.") from error


def _checked(text: str, source: str) -> str:
    token = text.strip()
    if not _SYNTAX.fullmatch(token):
        what = "a token is one word, without `Bearer` before it" if token else "it is empty"
        raise NoTokenError(f"{source} holds no token: {what}.")
    return token

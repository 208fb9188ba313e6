"""The token that a command of ours sends: from MUSTER_TOKEN, MUSTER_TOKEN_FILE, or of the local stack's issuer."""

from __future__ import annotations

import os
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import httpx

from chassis.clock import utc_now
from cli.access.scopes import SCOPES
from cli.access.token import DEFAULT_SUBJECT
from cli.stack.discovery import stack_folder
from cli.stack.settings import ISSUER_FOLDER
from local_stack import stack_file
from local_stack.issuer import NoIssuerError, open_issuer

TOKEN: Final = "MUSTER_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE: Final = "MUSTER_TOKEN_FILE"  # noqa: S105 - a variable's name
#: Tokens that a command makes for itself; a longer command makes another.
_LIFETIME: Final = timedelta(minutes=10)
_RENEW_BEFORE: Final = timedelta(minutes=1)
#: What to do about a 401 or 403, for whoever runs a command.
REMEDY: Final = (
    f"{TOKEN}, or the file that {TOKEN_FILE} names, must hold a token with the scope that is needed; `muster token`"
    " prints one of a local stack"
)


class Bearer(httpx.Auth):
    """Puts a token on each request; the local stack's goes to the stack's own addresses only."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is the local stack's; by default the one that every command uses."""
        self._folder = folder or stack_folder()
        self._made: tuple[str, datetime] | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Send the request with a token, where there is one for it.

        Raises:
            OSError: the file that MUSTER_TOKEN_FILE names cannot be read.
        """
        token = self.token_for(request.url)
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        yield request

    def token_for(self, url: httpx.URL) -> str | None:
        """The token for an address, read anew for each request."""
        if token := os.environ.get(TOKEN):
            return token.strip()
        if file := os.environ.get(TOKEN_FILE):
            return Path(file).read_text(encoding="utf-8").strip()
        return self._own_token(url)

    def _own_token(self, url: httpx.URL) -> str | None:
        now = utc_now()
        if not self._is_own(url):
            return None
        if self._made is None or self._made[1] - _RENEW_BEFORE <= now:
            try:
                issuer = open_issuer(self._folder / ISSUER_FOLDER)
            except NoIssuerError:
                return None
            token = issuer.token(subject=DEFAULT_SUBJECT, scopes=SCOPES, lifetime=_LIFETIME, now=now)
            self._made = token, now + _LIFETIME
        return self._made[0]

    def _is_own(self, url: httpx.URL) -> bool:
        stack = stack_file.read(self._folder)
        if stack is None:
            return False
        own = (httpx.URL(stack.settings[name]) for name in ("PUBLIC_COMMAND_URL", "PUBLIC_QUERY_URL"))
        return _origin(url) in {_origin(address) for address in own}


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port

"""The token that a command of ours sends: from MUSTER_TOKEN, MUSTER_TOKEN_FILE, or of the local stack's issuer."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import httpx

from chassis.clock import utc_now
from cli.access.scopes import SCOPES
from cli.access.token import DEFAULT_SUBJECT, ISSUER_FOLDER
from local_stack.issuer import NoIssuerError, open_issuer

TOKEN: Final = "MUSTER_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE: Final = "MUSTER_TOKEN_FILE"  # noqa: S105 - a variable's name
#: Tokens that a command makes for itself; a longer command makes another.
_LIFETIME: Final = timedelta(minutes=10)
_RENEW_BEFORE: Final = timedelta(minutes=1)


class Bearer(httpx.Auth):
    """Puts a token on each request; the local stack's goes to the stack's own addresses only."""

    def __init__(self, *, folder: Path, own: Iterable[str]) -> None:
        """`folder` is the local stack's, `own` the addresses of its APIs."""
        self._folder = folder
        self._own = {_origin(httpx.URL(address)) for address in own}
        self._made: tuple[str, datetime] | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Send the request with a token, where there is one for it."""
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
        return self._own_token() if _origin(url) in self._own else None

    def _own_token(self) -> str | None:
        now = utc_now()
        if self._made is None or self._made[1] - _RENEW_BEFORE <= now:
            try:
                issuer = open_issuer(self._folder / ISSUER_FOLDER)
            except NoIssuerError:
                return None
            token = issuer.token(subject=DEFAULT_SUBJECT, scopes=SCOPES, lifetime=_LIFETIME, now=now)
            self._made = token, now + _LIFETIME
        return self._made[0]


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port

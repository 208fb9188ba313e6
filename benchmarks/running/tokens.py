"""Access on: an issuer of the benchmark's own, what an app is told of it, and the headers of its callers."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Final

from chassis.access.authenticator import MOST_REMEMBERED
from local_stack.issuer import init_issuer
from local_stack.issuer_files import KEY_SET

SCOPES: Final = ("users:read", "users:register", "users:write")
#: So many tokens in turn that none is remembered when it comes again.
COLD_TOKENS: Final = MOST_REMEMBERED + 2_000
_LIFETIME: Final = timedelta(hours=12)


class Access:
    """One issuer and its tokens."""

    def __init__(self, folder: Path) -> None:
        """Make an issuer below the folder."""
        self._issuer = init_issuer(Path(tempfile.mkdtemp(prefix="issuer-", dir=folder)))

    @property
    def variables(self) -> dict[str, str]:
        """The settings of an app that lets in by this issuer's tokens alone; the servers' own switch access off."""
        return {
            "AUTH_DISABLED": "",
            "AUTH_ISSUER": self._issuer.issuer,
            "AUTH_AUDIENCE": self._issuer.audience,
            "AUTH_JWKS_FILE": str(self._issuer.folder / KEY_SET),
        }

    def header(self) -> str:
        """The line of a request that brings a new token."""
        token = self._issuer.token(subject="bench", scopes=SCOPES, lifetime=_LIFETIME, now=datetime.now(UTC))
        return f"authorization: Bearer {token}"

    def cold_headers(self) -> Iterator[str]:
        """Headers without end, each with a token that the app does not remember."""
        return cycle([self.header() for _ in range(COLD_TOKENS)])

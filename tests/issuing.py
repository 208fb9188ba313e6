"""The issuer that the APIs of tests trust, and its tokens: one for the whole run, in a folder that ends with it."""

import atexit
import shutil
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from local_stack.issuer import LocalIssuer, init_issuer
from local_stack.issuer_files import KEY_SET

#: All that there is but `self`: an operator's.
SCOPES: Final = (
    "users:read",
    "users:register",
    "users:write",
    "users:erase",
    "users:import",
    "credentials:issue",
    "credentials:redeem",
    "credentials:set",
    "credentials:verify",
)


@cache
def issuer() -> LocalIssuer:
    """The issuer of this run."""
    folder = Path(tempfile.mkdtemp(prefix="muster-test-issuer-"))
    atexit.register(shutil.rmtree, folder)
    return init_issuer(folder)


def auth() -> dict[str, str]:
    """The settings with which an API trusts it."""
    known = issuer()
    return {
        "AUTH_ISSUER": known.issuer,
        "AUTH_AUDIENCE": known.audience,
        "AUTH_JWKS_FILE": str(known.folder / KEY_SET),
    }


def token(
    subject: str = "operator",
    scopes: Iterable[str] = SCOPES,
    *,
    lifetime: timedelta = timedelta(hours=1),
    **claims: Any,
) -> str:
    """A token that is good now; claims go before the usual ones."""
    return issuer().token(subject=subject, scopes=scopes, lifetime=lifetime, now=datetime.now(UTC), claims=claims)


def bearer(subject: str = "operator", scopes: Iterable[str] = SCOPES, **how: Any) -> dict[str, str]:
    """The header that brings such a token."""
    return {"Authorization": f"Bearer {token(subject, scopes, **how)}"}


@cache
def operator() -> bytes:
    """The value of an operator's header, the same each time: for tests that send thousands of requests."""
    return bearer()["Authorization"].encode()

"""When a token ends, and when to renew it: of tokens that the authenticator has verified."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import jwt

#: A token is renewed this long ahead of its end, or in its last quarter where that is less.
AHEAD: Final = timedelta(minutes=1)
_LAST_PART: Final = 4


def renew_at(token: str, now: datetime) -> datetime:
    """When to renew it."""
    ends = ends_at(token)
    return ends - min(AHEAD, max(ends - now, timedelta()) / _LAST_PART)


def ends_at(token: str) -> datetime:
    """When it ends."""
    return datetime.fromtimestamp(jwt.decode(token, options={"verify_signature": False})["exp"], UTC)

"""One-time links to sign in with: made by `muster up` and `muster console link`, spent by a button.

A link holds a token that was made with it. Its row goes with the first who spends it, so a second one finds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from chassis.postgres.database import Connection
from console.sign_in.sealing import BrokenSealError, digest, new_id, seal, unseal

#: The time from making a link to clicking it.
LINK_LIFETIME: Final = timedelta(minutes=10)
#: A link leads here, below the console's address.
PATH: Final = "/sign-in/"

# Links that have expired go with whatever is made next.
_KEEP: Final = """
WITH expired AS (DELETE FROM console_links WHERE expires_at <= $4)
INSERT INTO console_links (digest, sealed, expires_at) VALUES ($1, $2, $3)
"""
_SPEND: Final = "DELETE FROM console_links WHERE digest = $1 AND expires_at > $2 RETURNING sealed"


async def make_link(connection: Connection, seals: Sequence[str], token: str, *, address: str, now: datetime) -> str:
    """A link below the console's address that signs in with this token, once."""
    identifier = new_id()
    sealed = seal(seals, identifier, token.encode("ascii"))
    await connection.execute(_KEEP, digest(identifier), sealed, now + LINK_LIFETIME, now)
    return f"{address}{PATH}{identifier}"


async def spend_link(connection: Connection, seals: Sequence[str], identifier: str, now: datetime) -> str | None:
    """The token of a link; None where it was spent, has expired, or never was."""
    sealed: bytes | None = await connection.fetchval(_SPEND, digest(identifier), now)
    if sealed is None:
        return None
    try:
        return unseal(seals, identifier, sealed).decode("ascii")
    except BrokenSealError:
        return None

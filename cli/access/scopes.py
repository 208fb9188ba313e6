"""Every scope there is, in the order of docs/reference/access.md."""

from __future__ import annotations

from typing import Final

from chassis.access.caller import SELF

#: An operator's token opens these by default, which is everything; a user's own token has `self` alone.
SCOPES: Final = (
    "users:read",
    "users:register",
    "users:write",
    "users:erase",
    "users:import",
    "credentials:verify",
    "credentials:issue",
    "credentials:redeem",
    "credentials:set",
    "events:read",
    "operations:read",
    "operations:write",
)


def unknown_scopes(text: str) -> list[str]:
    """Those of the scopes, which are separated by spaces, that open nothing of Muster's."""
    return [scope for scope in text.split() if scope not in {*SCOPES, SELF}]

"""What opens each route of the command API; docs/reference/access.md shows the same table."""

from __future__ import annotations

from typing import Final

from chassis.access.rules import AccessTable, Public, Rule

#: Changes any user.
WRITE: Final = "users:write"
#: Gives a user another password without knowing the current one.
SET_PASSWORD: Final = "credentials:set"  # noqa: S105 - a scope's name

ACCESS: Final = AccessTable(
    (
        Rule("POST", "/users", ("users:register",)),
        Rule("PUT", "/users/{id}/email", (WRITE,), own=True),
        Rule("POST", "/users/{id}/email/verify", (WRITE,)),
        Rule("PUT", "/users/{id}/username", (WRITE,), own=True),
        Rule("PUT", "/users/{id}/password", (WRITE, SET_PASSWORD), own=True),
        Rule("PATCH", "/users/{id}/profile", (WRITE,), own=True),
        Rule("POST", "/users/{id}/deactivate", (WRITE,), own=True),
        Rule("POST", "/users/{id}/reactivate", (WRITE,)),
        Rule("DELETE", "/users/{id}", ("users:erase",), own=True),
        Rule("POST", "/users/import", ("users:import",)),
    ),
    public=[Public("/schemas/")],
)

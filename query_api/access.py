"""The table of the query API's routes and what opens each; docs/reference/access.md shows the same table."""

from __future__ import annotations

from typing import Final

from chassis.access.rules import AccessTable, Rule

_READ: Final = ("users:read",)

ACCESS: Final = AccessTable(
    (
        Rule("GET", "/users", _READ, limit="reads"),
        Rule("POST", "/users/search", _READ, limit="reads"),
        Rule("GET", "/users/digest", _READ, limit="reads"),
        Rule("GET", "/users/{id}", _READ, own=True, limit="reads"),
        Rule("GET", "/users/{id}/timeline", _READ, own=True, limit="reads"),
        Rule("GET", "/stats/signups", _READ, limit="reads"),
    )
)

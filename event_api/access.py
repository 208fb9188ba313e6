"""The table of the event API's routes and what opens each; docs/reference/access.md shows the same table."""

from __future__ import annotations

from typing import Final

from chassis.access.rules import AccessTable, Rule

#: Removes subscribers of others.
REMOVES_ANY: Final = "operations:write"

ACCESS: Final = AccessTable(
    (
        Rule("GET", "/events", ("events:read",), limit="reads"),
        Rule("POST", "/subscribers", ("events:read",), limit="reads"),
        Rule("GET", "/subscribers", ("operations:read",), limit="reads"),
        Rule("PUT", "/subscribers/{name}/position", ("events:read",), limit="reads"),
        Rule("DELETE", "/subscribers/{name}", ("events:read", REMOVES_ANY), limit="reads"),
        Rule("GET", "/erasures", ("operations:read",), limit="reads"),
        Rule("GET", "/erasures/{id}", ("operations:read",), limit="reads"),
    ),
    public=("/events/catalogue", "/receipts/jwks.json"),
)

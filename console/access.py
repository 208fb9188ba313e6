"""The table of the console's pages and deeds and what opens each; docs/reference/access.md shows the same table."""

from __future__ import annotations

from typing import Final

from chassis.access.rules import AccessTable, Rule

#: A browser that has no session is led here.
SIGN_IN: Final = "/sign-in"

#: A link opens this by itself.
SPENDING: Final = ("POST", f"{SIGN_IN}/{{link}}")

ACCESS: Final = AccessTable(
    (
        Rule("GET", "/", ("operations:read",)),
        Rule("GET", "/live/overview", ("operations:read",)),
        Rule("GET", "/users", ("users:read",)),
        Rule("POST", "/users", ("users:read",)),
        Rule("POST", "/users/reveal", ("users:read",)),
        Rule("GET", "/users/{id}", ("users:read",)),
        Rule("POST", "/users/{id}/reveal", ("users:read",)),
        Rule("POST", "/users/{id}/deactivate", ("users:write",)),
        Rule("POST", "/users/{id}/reactivate", ("users:write",)),
        Rule("POST", "/users/{id}/email", ("users:write",)),
        Rule("POST", "/users/{id}/reset", ("credentials:issue",)),
        Rule("POST", "/users/{id}/erase", ("users:erase",)),
        Rule("GET", "/events", ("events:read",)),
        Rule("GET", "/live/events", ("events:read",)),
        Rule("GET", "/projections", ("operations:read",)),
        Rule("POST", "/projections/{name}/rebuild", ("operations:write",)),
        Rule("POST", "/projections/{name}/switch", ("operations:write",)),
        Rule("POST", "/projections/{name}/rollback", ("operations:write",)),
        Rule("POST", "/projections/{name}/retire", ("operations:write",)),
        Rule("GET", "/parked", ("operations:read",)),
        Rule("POST", "/parked/retry", ("operations:write",)),
        Rule("POST", "/parked/discard-suspicious", ("operations:write",)),
        Rule("GET", "/parked/{projection}/{generation}/{partition}/{offset}", ("operations:read",)),
        Rule("POST", "/parked/{projection}/{generation}/{partition}/{offset}/reveal", ("users:read",)),
        Rule("POST", "/parked/{projection}/{generation}/{partition}/{offset}/retry", ("operations:write",)),
        Rule("POST", "/parked/{projection}/{generation}/{partition}/{offset}/preview", ("operations:write",)),
        Rule("POST", "/parked/{projection}/{generation}/{partition}/{offset}/discard", ("operations:write",)),
        Rule("GET", "/subscribers", ("operations:read",)),
        Rule("GET", "/subscribers/receipt", ("operations:read",)),
        Rule("GET", "/subscribers/receipts/{id}", ("operations:read",)),
        Rule("POST", "/subscribers/{name}/remove", ("operations:write",)),
        Rule("GET", "/operations", ("operations:read",)),
        # Anybody with a session may end it.
        Rule("POST", "/sign-out", ()),
    ),
    public=(SIGN_IN, f"{SIGN_IN}/", "/assets/"),
)

"""The routes of the command API, what opens each, and what a body may ask for; so says docs/reference/access.md."""

from __future__ import annotations

from typing import Final

from chassis.access.guard import Access
from chassis.access.problems import forbidden
from chassis.access.rules import AccessTable, Rule
from command_api.users.commands import OWN_MEMBERS

#: Changes any user.
WRITE: Final = "users:write"
#: Gives a user another password without knowing the current one.
SET_PASSWORD: Final = "credentials:set"  # noqa: S105 - a scope's name

ACCESS: Final = AccessTable(
    (
        Rule("POST", "/users", ("users:register",)),
        Rule("PUT", "/users/{id}/email", (WRITE,), own=True, own_limit="self"),
        Rule("POST", "/users/{id}/email/verify", (WRITE,)),
        Rule("PUT", "/users/{id}/username", (WRITE,), own=True, own_limit="self"),
        Rule("PUT", "/users/{id}/password", (WRITE, SET_PASSWORD), own=True, own_limit="self"),
        Rule("PATCH", "/users/{id}/profile", (WRITE,), own=True),
        Rule("POST", "/users/{id}/deactivate", (WRITE,), own=True),
        Rule("POST", "/users/{id}/reactivate", (WRITE,)),
        Rule("DELETE", "/users/{id}", ("users:erase",), own=True),
        # Limited by counters of its own (command_api/credentials/attempts).
        Rule("POST", "/credentials/verify", ("credentials:verify",), limit="verify"),
        Rule("POST", "/users/import", ("users:import",), limit="imports"),
        Rule("POST", "/users/{id}/one-time-tokens", ("credentials:issue",)),
        Rule("POST", "/one-time-tokens/redeem", ("credentials:redeem",)),
    ),
    public=["/schemas/"],
)


def refuse_beyond(path: str, access: Access, document: object, own_attributes: frozenset[str]) -> None:
    """Return where the caller may ask for what this body says, whatever else is wrong with it.

    `path` is the route's template, `document` the JSON that came, and `own_attributes` those that a user may write of
    its own. Asked ahead of every hash and every load, so that the refusal says nothing about the user in the path.

    Raises:
        Problem: 403, which names the scope that is missing.
    """
    sent = document if isinstance(document, dict) else {}
    match path:
        case "/users/{id}/password" if sent.get("current_password") is None and not access.may(SET_PASSWORD):
            raise forbidden("a reset, without current_password, needs a scope of its own", scope=SET_PASSWORD)
        case "/users/{id}/deactivate" if access.own_only and sent.get("reason") is not None:
            raise forbidden("a token with self deactivates without a reason", scope=WRITE)
        case "/users/{id}/profile" if access.own_only:
            _refuse_of_others(sent, own_attributes)
        case _:
            return


def _refuse_of_others(patch: dict[str, object], own_attributes: frozenset[str]) -> None:
    """Refuse a merge patch of what others rely on, as a whole; a field that comes later is theirs until listed."""
    if not OWN_MEMBERS.issuperset(patch):
        named = " and ".join(sorted(OWN_MEMBERS))
        raise forbidden(f"a token with self writes {named} of its profile, and nothing else", scope=WRITE)
    attributes = patch.get("attributes", {})
    if attributes is None or (isinstance(attributes, dict) and not own_attributes.issuperset(attributes)):
        raise forbidden("a token with self writes no other attributes than AUTH_SELF_ATTRIBUTES names", scope=WRITE)

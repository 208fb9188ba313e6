"""What opens each route of the command API, and what a body may ask for; docs/reference/access.md says the same."""

from __future__ import annotations

from typing import Final

from chassis.access.guard import Access
from chassis.access.problems import forbidden
from chassis.access.rules import AccessTable, Public, Rule
from command_api.users.commands import ChangeCommand, ChangePassword, ChangeProfile, DeactivateUser, EraseUser

#: Changes any user.
WRITE: Final = "users:write"
#: What a user may write of its profile; of the attributes, those that AUTH_SELF_ATTRIBUTES names.
_OWN_MEMBERS: Final = frozenset({"display_name", "attributes"})
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
        # Limited by counters of its own (command_api/credentials/attempts.py).
        Rule("POST", "/credentials/verify", ("credentials:verify",), limit="verify"),
        Rule("POST", "/users/import", ("users:import",), limit="imports"),
        Rule("POST", "/users/{id}/one-time-tokens", ("credentials:issue",)),
        Rule("POST", "/one-time-tokens/redeem", ("credentials:redeem",)),
    ),
    public=[Public("/schemas/")],
)


def refuse_beyond(access: Access, command: ChangeCommand | EraseUser, own_attributes: frozenset[str]) -> None:
    """Return where the caller may do what the body asks for; `own_attributes` are those that a user may write.

    Asked ahead of every hash and every load, so that the refusal says nothing about the user in the path.

    Raises:
        Problem: 403, which names the scope that is missing.
    """
    match command:
        case ChangePassword(current_password=None) if not access.may(SET_PASSWORD):
            raise forbidden("a reset, without current_password, needs a scope of its own", scope=SET_PASSWORD)
        case DeactivateUser(reason=str()) if access.own_only:
            raise forbidden("a token with self deactivates without a reason", scope=WRITE)
        case ChangeProfile() if access.own_only and not _is_own(command, own_attributes):
            raise forbidden("a token with self writes no other attributes than AUTH_SELF_ATTRIBUTES names", scope=WRITE)
        case _:
            return


def refuse_as_sent(path: str, access: Access, document: object) -> None:
    """Return where the caller may ask for the members of this body, whatever is wrong with their values.

    Raises:
        Problem: 403, which names the scope that is missing.
    """
    sent = document if isinstance(document, dict) else {}
    if path.endswith("/password") and "current_password" not in sent and not access.may(SET_PASSWORD):
        raise forbidden("a reset, without current_password, needs a scope of its own", scope=SET_PASSWORD)
    if path.endswith("/profile") and access.own_only and not _OWN_MEMBERS.issuperset(sent):
        named = " and ".join(sorted(_OWN_MEMBERS))
        raise forbidden(f"a token with self writes {named} of its profile, and nothing else", scope=WRITE)
    if path.endswith("/profile") and access.own_only and sent.get("attributes", {}) is None:
        raise forbidden("a token with self writes no other attributes than AUTH_SELF_ATTRIBUTES names", scope=WRITE)


def _is_own(patch: ChangeProfile, own_attributes: frozenset[str]) -> bool:
    sent = patch.model_fields_set
    if not sent <= _OWN_MEMBERS:
        return False  # a field that came later is not a user's own before somebody says so here
    if "attributes" not in sent:
        return True
    return patch.attributes is not None and own_attributes.issuperset(patch.attributes)

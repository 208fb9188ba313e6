"""The changes of a user, each as a form of the user's page: by the command API, with the operator's token."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.forms import Form, change, lead_to
from console.opened import apis_of, journal_of, sessions_of
from console.pages import PageError, page
from console.sign_in.sessions import Session
from console.users.detail import ERASED, read_user, user_id


async def _deactivate(request: Request, session: Session, form: Form) -> Response:
    return await _command(request, session, "deactivate", "POST", "deactivate", _reason(form), done="deactivated")


async def _reactivate(request: Request, session: Session, form: Form) -> Response:
    return await _command(request, session, "reactivate", "POST", "reactivate", _reason(form), done="reactivated")


async def _correct_address(request: Request, session: Session, form: Form) -> Response:
    body = {"email": form.get("email", "").strip()}
    return await _command(request, session, "correct address", "PUT", "email", body, done="email")


async def _command(  # noqa: PLR0913, PLR0917 - what a command is made of
    request: Request, session: Session, deed: str, method: str, route: str, body: dict[str, Any], *, done: str
) -> Response:
    """Send a command, and lead to the user's page as it is afterwards."""
    identifier, apis, journal = user_id(request), apis_of(request), journal_of(request)
    async with journal.deed(session, deed, identifier):
        _, token = await apis.command(session, method, f"/users/{identifier}/{route}", body)
    return lead_to(session, f"/users/{identifier}", done=done, after=token or "")


async def _reset(request: Request, session: Session, _: Form) -> Response:
    """Issue a token that sets a new password, and show it this once."""
    identifier, apis, journal = user_id(request), apis_of(request), journal_of(request)
    async with journal.deed(session, "issue a token for a reset", identifier):
        issued, _token = await apis.command(
            session, "POST", f"/users/{identifier}/one-time-tokens", {"purpose": "password-reset"}
        )
    return page(request, "reset.html", id=identifier, token=issued["token"], expires_at=issued["expires_at"])


async def _erase(request: Request, session: Session, form: Form) -> Response:
    """Erase a user whose username was typed to the letter."""
    identifier, apis, journal = user_id(request), apis_of(request), journal_of(request)
    user = await read_user(request, session, identifier)
    if form.get("username", "") != user["username"]:
        raise PageError(
            422, "The username is another one", "Nothing was erased: type the username exactly as it is shown."
        )
    async with journal.deed(session, "erase", identifier):
        _, token = await apis.command(session, "DELETE", f"/users/{identifier}")
    return lead_to(session, f"/users/{identifier}", done=ERASED, after=token or "")


async def _reveal(request: Request, session: Session, _: Form) -> Response:
    """Show the user's data in clear, once it is recorded who saw them."""
    identifier, sessions = user_id(request), sessions_of(request)
    async with journal_of(request).deed(session, "reveal", identifier):
        await sessions.reveal(session, [identifier])
    return lead_to(session, f"/users/{identifier}")


def _reason(form: Form) -> dict[str, Any]:
    return {"reason": form.get("reason", "").strip() or None}


routes: Final = [
    Route(f"/users/{{id}}/{name}", change(deed), methods=["POST"])
    for name, deed in (
        ("deactivate", _deactivate),
        ("reactivate", _reactivate),
        ("email", _correct_address),
        ("reset", _reset),
        ("erase", _erase),
        ("reveal", _reveal),
    )
]

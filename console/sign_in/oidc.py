"""Signing in by an identity provider: to it, and back with a code (authorization code with PKCE).

What a sign-in needs when it comes back is sealed in a cookie, with its state as the seal's id: another browser has no
cookie, and another state does not open it. Nothing is written for those who only begin. Whoever comes back and is
signed in spends the state, so nothing that came back works twice. Nobody is led to an address that came with a request.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.access.tokens import InvalidTokenError
from chassis.clock import utc_now
from chassis.http.problems import Problem
from chassis.postgres.database import Database
from console.pages import HEADERS, PageError, page
from console.settings import ConsoleSettings
from console.sign_in.pages import ENDED, cookie_name, is_secure, signed_in
from console.sign_in.provider import CALLBACK, Provider, ProviderAwayError, ProviderRefusedError, refusal
from console.sign_in.sealing import BrokenSealError, digest, new_id, seal, unseal
from console.sign_in.sessions import Session, Sessions

log = structlog.get_logger("console")

#: The time from the button to coming back.
LIFETIME: Final = timedelta(minutes=10)
BEGIN: Final = "/sign-in/provider"
#: The time for one row by its key.
_SECONDS: Final = 3.0
#: No provider's code or state is longer; what is would only be carried around.
_MOST_CHARACTERS: Final = 4096

# The row is there for its key alone; it goes with whatever is spent later.
_SPEND: Final = """
WITH expired AS (DELETE FROM console_links WHERE expires_at <= $3)
INSERT INTO console_links (digest, sealed, expires_at) VALUES ($1, '', $2) ON CONFLICT DO NOTHING
"""
_NONE: Final = PageError(
    404, "There is no identity provider here", "Sign in by a link: `muster console link` makes one."
)
_STALE: Final = PageError(
    400,
    "This sign-in is not one of this browser's, or is over",
    "It has ten minutes, works once, and another one that begins takes its place. Nobody was signed in: begin anew"
    " at /sign-in.",
)


async def _begin(request: Request) -> Response:
    """Lead to the provider, with what this browser must come back with."""
    settings: ConsoleSettings = request.app.state.settings
    provider, state, nonce, verifier = _provider(request), new_id(), new_id(), new_id()
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode("ascii")
    address = await provider.sign_in_address(state=state, nonce=nonce, challenge=challenge)
    answer = RedirectResponse(address, 303, dict(HEADERS))
    until = (utc_now() + LIFETIME).timestamp()
    kept = seal(settings.seals, state, json.dumps({"nonce": nonce, "verifier": verifier, "until": until}).encode())
    _set_cookie(answer, settings, kept.decode("ascii"), LIFETIME)
    return answer


async def _come_back(request: Request) -> Response:
    """Begin a session with the tokens of whoever signed in; the sign-in is over, whatever comes of it."""
    settings: ConsoleSettings = request.app.state.settings
    provider, given = _provider(request), request.query_params
    kept = _kept(settings, request.cookies.get(_cookie(settings), ""), given.get("state", ""))
    if given.get("iss", provider.issuer) != provider.issuer:
        raise PageError(400, "Another issuer answered", "Nobody was signed in (RFC 9207). Begin anew at /sign-in.")
    if "code" not in given:
        raise _refused(refusal(given.get("error"), given.get("error_description")))
    session = await _enter(request, provider, given["code"][:_MOST_CHARACTERS], kept, given["state"])
    answer = signed_in(settings, session)
    _set_cookie(answer, settings, "", timedelta())
    return answer


async def _enter(request: Request, provider: Provider, code: str, kept: dict[str, Any], state: str) -> Session:
    """A session with the tokens that the code gives.

    Raises:
        PageError: 400, 401, it gives none that is good here; 503, the provider does not answer.
    """
    sessions: Sessions = request.app.state.sessions
    try:
        tokens = await provider.tokens_for_code(code, kept["verifier"])
        await provider.identities.verify(tokens.identity, kept["nonce"])
        await _spend(request.app.state.query, state, utc_now())
        before = request.cookies.get(cookie_name(request.app.state.settings), "")
        return await sessions.begin(tokens.access, tokens.refresh, instead_of=before)
    except ProviderRefusedError as error:
        raise _refused(error) from error
    except InvalidTokenError as error:
        log.warning("console.sign_in_not_believed", reason=str(error))
        raise PageError(
            401, "The identity provider's answer is not believed", f"{error}. Nobody was signed in."
        ) from error
    except Problem as error:
        raise PageError(
            401,
            "The identity provider's token does not open Muster",
            f"{error.detail}. Nobody was signed in: the provider must give the console tokens for AUTH_AUDIENCE.",
        ) from error


async def _spend(query: Database, state: str, now: datetime) -> None:
    """Let this state be good once.

    Raises:
        PageError: 400, it was spent.
    """
    async with query.connection(_SECONDS) as connection:
        done = await connection.execute(_SPEND, digest(f"state {state}"), now + LIFETIME, now)
    if done != "INSERT 0 1":
        raise _STALE


async def _ended(request: Request) -> Response:
    """Tell that the session is over, and where the provider's own can be ended, which it asks about itself."""
    provider = _provider(request)
    try:
        address = await provider.sign_out_address()
    except ProviderAwayError as error:
        log.info("console.sign_out_address_not_known", reason=str(error))
        address = None
    return page(request, "signed_out.html", address=address, provider=provider)


def _provider(request: Request) -> Provider:
    provider: Provider | None = request.app.state.provider
    if provider is None:
        raise _NONE
    return provider


def _kept(settings: ConsoleSettings, sealed: str, state: str) -> dict[str, Any]:
    """The beginning of this browser's sign-in with this state.

    Raises:
        PageError: 400, it began none, or another, or too long ago.
    """
    if not sealed or not state or len(state) > _MOST_CHARACTERS:
        raise _STALE
    try:
        kept: dict[str, Any] = json.loads(unseal(settings.seals, state, sealed.encode()))
    except BrokenSealError as error:
        raise _STALE from error
    if kept["until"] <= utc_now().timestamp():
        raise _STALE
    return kept


def _refused(error: ProviderRefusedError) -> PageError:
    said = str(error).rstrip(".")
    if error.error == "access_denied":
        return PageError(403, "You were not let in", f"The identity provider says: {said}. Try again at /sign-in.")
    return PageError(
        401,
        "The identity provider signed nobody in",
        f"It says: {said}. Begin anew at /sign-in, or tell who runs this.",
    )


def _cookie(settings: ConsoleSettings) -> str:
    return "__Host-muster_sign_in" if is_secure(settings) else "muster_sign_in"


def _set_cookie(answer: Response, settings: ConsoleSettings, value: str, lifetime: timedelta) -> None:
    answer.set_cookie(
        _cookie(settings),
        value,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=is_secure(settings),
        httponly=True,
        # It must come along from the provider's page; other methods than GET there are none.
        samesite="lax",
    )


routes: Final = [Route(BEGIN, _begin), Route(CALLBACK, _come_back), Route(ENDED, _ended)]

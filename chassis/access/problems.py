"""The two refusals of access (RFC 6750, section 3). Neither tells anything about what the path names."""

from __future__ import annotations

from typing import Final

from chassis.http.problems import Problem, ProblemType

UNAUTHENTICATED: Final = ProblemType(
    "unauthenticated",
    401,
    "This needs a bearer token that is valid now",
    "No token came in the Authorization header, or the one that came is malformed, expired, not yet valid, of another"
    " issuer or audience, or signed with a key that the issuer does not have.",
    "Send `Authorization: Bearer …` with a token of the issuer that this service trusts; ask it for a new one where"
    " yours has expired. On a local stack `muster token` prints one.",
)
FORBIDDEN: Final = ProblemType(
    "forbidden",
    403,
    "Whoever sent this may not do it",
    "The token is valid, but none of its scopes opens this route, or what the body asks for. Or no token is asked for"
    " here, and a browser sent a command from a page that is not the service's own.",
    "Ask the issuer for a token with the scope that WWW-Authenticate names. Where it names none, send the command from"
    " the service's own pages; an operator lets pages of other origins send commands by CORS_ALLOW_ORIGINS.",
)

#: The header of a challenge.
CHALLENGE: Final = "WWW-Authenticate"


def unauthenticated(detail: str, *, token_came: bool) -> Problem:
    """Return a 401; `token_came` tells the client that we refused its token."""
    challenge = 'Bearer error="invalid_token"' if token_came else "Bearer"
    return Problem(UNAUTHENTICATED, detail, headers={CHALLENGE: challenge})


def forbidden(detail: str, *, scope: str) -> Problem:
    """Return a 403 that names the missing scope."""
    return Problem(FORBIDDEN, detail, headers={CHALLENGE: f'Bearer error="insufficient_scope", scope="{scope}"'})

"""A token's text and claims: a signed JWT in compact form (RFC 7515, 7519), read as RFC 8725 advises.

Everything is checked before a key is looked for, and strictly: one base64url form, members given twice refused, the
algorithm from a list of ours. No header names a key's place: `jku`, `x5u`, `jwk` and `x5c` are never looked at. The
signature is the work of PyJWT's algorithms (authenticator.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from chassis.access.caller import Caller, InvalidActorError, encode_actor
from chassis.strict_json import read_json

#: Characters of a token; larger ones are no access tokens.
LONGEST_TOKEN: Final = 8 * 1024
_PARTS: Final = 3
#: The last second of the year 9999: anything later is a mistake, and no `datetime`.
_LAST_TIME: Final = 253_402_300_799
_TYPES: Final = frozenset({"at+jwt", "jwt"})


class InvalidTokenError(Exception):
    """A token that is not accepted; the message says why, for the log and the client."""


class UnverifiedToken(NamedTuple):
    """What a token's text says; trust nothing of it before the signature is verified."""

    algorithm: str
    key_id: str | None
    claims: dict[str, Any]
    #: What was signed, and its signature.
    signed: bytes
    signature: bytes


class Expectations(NamedTuple):
    """What a token must say to be meant for this service."""

    issuer: str
    audience: str
    algorithms: Collection[str]
    leeway_seconds: int


class Validity(NamedTuple):
    """When a token may be used, in seconds since 1970."""

    not_before: float
    expires: float

    def check(self, now: float, leeway: float) -> None:
        """Return if it may be used now.

        Raises:
            InvalidTokenError: it may not be yet, or not any more.
        """
        if now >= self.expires + leeway:
            raise InvalidTokenError("the token has expired")
        if now < self.not_before - leeway:
            raise InvalidTokenError("the token is not valid yet")


def read_token(text: str, algorithms: Collection[str]) -> UnverifiedToken:
    """Take a token apart.

    Raises:
        InvalidTokenError: it is not a signed JWT in the accepted form.
    """
    parts = text.split(".")
    if len(text) > LONGEST_TOKEN or len(parts) != _PARTS:
        raise InvalidTokenError(f"not a signed JWT in compact form of at most {LONGEST_TOKEN} characters")
    header, claims, signature = (_decode(part) for part in parts)
    if not signature:
        raise InvalidTokenError("the token is not signed")
    said = _object(header, "header")
    # RFC 7797, section 3: b64 is one, whether or not crit says so.
    if "crit" in said or said.get("b64", True) is not True:
        raise InvalidTokenError("the header has critical extensions (crit), and none is known here")
    algorithm, key_id = said.get("alg"), said.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise InvalidTokenError(f"the algorithm is none of {', '.join(algorithms)}")
    if "typ" in said and not _is_access_token(said["typ"]):
        raise InvalidTokenError("the type (typ) is none of an access token")
    # A null is a member, and not a text.
    if "kid" in said and not isinstance(key_id, str):
        raise InvalidTokenError("the key's id (kid) is no text")
    signed = text.rpartition(".")[0].encode("ascii")
    return UnverifiedToken(algorithm, key_id, _object(claims, "claims"), signed, signature)


def read_claims(claims: dict[str, Any], expected: Expectations) -> tuple[Caller, Validity]:
    """Return the caller whom verified claims name, and when they hold, which to check each time.

    Raises:
        InvalidTokenError: the claims are for somebody else, or break RFC 7519 or RFC 9068.
    """
    if claims.get("iss") != expected.issuer:
        raise InvalidTokenError("the token is of another issuer")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(each, str) for each in audiences):
        raise InvalidTokenError("the audience (aud) is neither a text nor a list of texts")
    if expected.audience not in audiences:
        raise InvalidTokenError("the token is for another audience")
    subject, acting = _actor(claims, "sub"), _acting(claims)
    not_before = max(_time(claims, "nbf", default=0), _time(claims, "iat", default=0))
    validity = Validity(not_before, _time(claims, "exp"))
    return Caller(issuer=expected.issuer, subject=subject, acting=acting, scopes=_scopes(claims)), validity


def _decode(part: str) -> bytes:
    """Decode base64url text without padding, in its one form: the last character's spare bits are 0."""
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidTokenError("a part of the token is not base64url") from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != part:
        raise InvalidTokenError("a part of the token is not base64url in its one form")
    return raw


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        found = read_json(raw.decode("utf-8"))
    except ValueError as error:
        raise InvalidTokenError(f"the {what} cannot be read: not JSON, or a member comes twice") from error
    if not isinstance(found, dict):
        raise InvalidTokenError(f"the {what} is no JSON object")
    return found


def _is_access_token(kind: object) -> bool:
    return isinstance(kind, str) and kind.lower().removeprefix("application/") in _TYPES


def _time(claims: dict[str, Any], name: str, *, default: float | None = None) -> float:
    found = claims.get(name, default)
    # NaN and infinity are in no range.
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found <= _LAST_TIME:
        raise InvalidTokenError(f"{name} must be a number of seconds since 1970")
    return float(found)


def _actor(claims: dict[str, Any], what: str) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise InvalidTokenError(f"{what} must be a text")
    try:
        encode_actor(subject)
    except InvalidActorError as error:
        raise InvalidTokenError(f"{what} {error}") from error
    return subject


def _acting(claims: dict[str, Any]) -> str | None:
    """The outermost actor (RFC 8693, section 4.1); nested ones are history and decide nothing."""
    if "act" not in claims:
        return None
    acting = claims["act"]
    if not isinstance(acting, dict):
        raise InvalidTokenError("act must be an object")
    return _actor(acting, "act.sub")


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """`scope` (RFC 9068); only where that is absent `scp`, as some issuers have it."""
    found = claims["scope"] if "scope" in claims else claims.get("scp", "")
    if "scope" not in claims and isinstance(found, list) and all(isinstance(each, str) for each in found):
        return frozenset(found)
    if not isinstance(found, str):
        raise InvalidTokenError("scope must be a text, scp a text or a list of texts")
    return frozenset(found.split(" ")) - {""}

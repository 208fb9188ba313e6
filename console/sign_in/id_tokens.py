"""Reads who signed in: the provider's ID token, verified as OpenID Connect has it (Core, 3.1.3.7)."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable

from chassis.access.authenticator import is_signed_with
from chassis.access.issuer_keys import IssuerKeys
from chassis.access.tokens import Expectations, InvalidTokenError, read_claims, read_token


class IdTokens:
    """Verifies ID tokens of one issuer for one client."""

    def __init__(self, keys: IssuerKeys, expected: Expectations, *, now: Callable[[], float] = time.time) -> None:
        """The audience that is expected is the client's id; `now` gives seconds since 1970."""
        self._keys, self._expected, self._now = keys, expected, now

    async def verify(self, text: str | None, nonce: str) -> None:
        """Return where the issuer has signed somebody in for this client, at the request with this nonce.

        Raises:
            InvalidTokenError: it has not, or the token is no good any more.
        """
        if text is None:
            raise InvalidTokenError("there is no ID token")
        unverified = read_token(text, self._expected.algorithms)
        claims = unverified.claims
        _, validity = read_claims(claims, self._expected)
        validity.check(self._now(), self._expected.leeway_seconds)
        # Required where there are several audiences; where it is there it names the client that the token was made for.
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (several or "azp" in claims) and claims.get("azp") != self._expected.audience:
            raise InvalidTokenError("the token was made for another client (azp)")
        given = claims.get("nonce")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise InvalidTokenError("the token is of another sign-in (nonce)")
        for key in await self._keys.find(unverified.algorithm, unverified.key_id):
            if is_signed_with(key, unverified):
                return
        raise InvalidTokenError("the token is not signed with a key of the issuer's")

"""From the Authorization header to the caller.

It remembers a verified token by its hash, so that a caller who comes again costs a look-up. It forgets the token when
the token ends or its key does, and checks the token's times on every request.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import jwt
import structlog

from chassis.access.caller import Caller, Grant
from chassis.access.issuer_keys import IssuerKeys
from chassis.access.key_sources import key_source
from chassis.access.keys import Key
from chassis.access.problems import unauthenticated
from chassis.access.settings import AccessSettings
from chassis.access.tokens import Expectations, InvalidTokenError, UnverifiedToken, Validity, read_claims, read_token

log = structlog.get_logger("access")

#: Tokens that it remembers, each in about 600 bytes; beyond that it forgets those verified first.
MOST_REMEMBERED: Final = 10_000
#: Keys to try with one token, each a fraction of a millisecond: without a key id, all of its algorithm.
MOST_TRIED: Final = 8
_SCHEME: Final = "bearer"
_ASK_FOR_ONE: Final = "send a bearer token in the Authorization header"
_ASK_FOR_BEARER: Final = "the Authorization header must be `Bearer` and a token"
_jws: Final = jwt.PyJWS()


class _Remembered(NamedTuple):
    grant: Grant
    validity: Validity
    key: Key


class Authenticator:
    """Turns bearer tokens of one issuer into callers."""

    def __init__(self, expected: Expectations, keys: IssuerKeys, *, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._expected = expected
        self._keys = keys
        self._now = now
        self._remembered: dict[bytes, _Remembered] = {}
        self._generation = keys.generation

    async def check(self) -> None:
        """Check for readiness that there are keys to verify with.

        Raises:
            NotReadyError: there are none yet.
        """
        await self._keys.check()

    async def authenticate(self, authorization: str) -> Caller:
        """Return the caller whose token the header brings; an absent header is empty.

        Raises:
            Problem: 401.
        """
        return (await self.admit(authorization)).caller

    async def admit(self, authorization: str) -> Grant:
        """Return the caller and how long it may stay.

        Raises:
            Problem: 401.
        """
        return self.recall(authorization) or self._valid(await self._remember(_token_of(authorization)))

    def recall(self, authorization: str) -> Grant | None:
        """The same for a token that was verified before, without waiting for anything; None for every other.

        Raises:
            Problem: 401.
        """
        if self._generation != self._keys.generation:
            self._forget_ended()
        found = self._remembered.get(_digest(_token_of(authorization)))
        return None if found is None else self._valid(found)

    def _valid(self, found: _Remembered) -> Grant:
        try:
            found.validity.check(self._now(), self._expected.leeway_seconds)
        except InvalidTokenError as error:
            raise unauthenticated(str(error), token_came=True) from error
        return found.grant

    async def _remember(self, token: str) -> _Remembered:
        try:
            verified = await self._verify(token)
        except InvalidTokenError as error:
            raise unauthenticated(str(error), token_came=True) from error
        if len(self._remembered) >= MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[_digest(token)] = verified
        return verified

    async def _verify(self, token: str) -> _Remembered:
        unverified = read_token(token, self._expected.algorithms)
        # Claims first: that refuses a token for somebody else without a fetch and without arithmetic.
        caller, validity = read_claims(unverified.claims, self._expected)
        validity.check(self._now(), self._expected.leeway_seconds)
        key = await self._signer(unverified)
        return _Remembered(Grant(caller, partial(self._seconds_left, validity, key)), validity, key)

    async def _signer(self, unverified: UnverifiedToken) -> Key:
        candidates = await self._keys.find(unverified.algorithm, unverified.key_id)
        key = _first_signer(candidates, unverified)
        if key is None and unverified.key_id is None:
            key = _first_signer(await self._keys.find_new(unverified.algorithm, candidates), unverified)
        if key is None and self._keys.is_empty:
            raise InvalidTokenError("this process does not know the issuer's keys yet: it could not fetch them so far")
        if key is None:
            raise InvalidTokenError("the token is not signed with a key of the issuer's")
        return key

    def _seconds_left(self, validity: Validity, key: Key) -> float:
        left = validity.expires + self._expected.leeway_seconds - self._now()
        return max(left, 0.0) if key in self._keys else 0.0

    def _forget_ended(self) -> None:
        """Forget tokens of keys that the issuer has removed."""
        self._remembered = {digest: each for digest, each in self._remembered.items() if each.key in self._keys}
        self._generation = self._keys.generation


def _digest(token: str) -> bytes:
    """What a token is remembered by: memory holds none."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _token_of(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != _SCHEME or not token:
        raise unauthenticated(_ASK_FOR_BEARER if authorization else _ASK_FOR_ONE, token_came=False)
    return token


def _first_signer(candidates: Collection[Key], unverified: UnverifiedToken) -> Key | None:
    if len(candidates) > MOST_TRIED:
        raise InvalidTokenError(f"more than {MOST_TRIED} keys may have signed the token: it must name one (kid)")
    return next((key for key in candidates if is_signed_with(key, unverified)), None)


def is_signed_with(key: Key, unverified: UnverifiedToken) -> bool:
    """Tell whether the key made the signature; its type is the algorithm's.

    PyJWT's own decoding would parse the token once more, which takes as long as the arithmetic.
    """
    algorithm = _jws.get_algorithm_by_name(unverified.algorithm)
    return bool(algorithm.verify(unverified.signed, key.public, unverified.signature))


@asynccontextmanager
async def open_authenticator(settings: AccessSettings, *, host: str) -> AsyncIterator[Authenticator | None]:
    """Open the authenticator of a process that listens on `host`; None where access is switched off.

    The issuer may be away: this succeeds, and the process is ready once its keys are there.

    Raises:
        SettingsError: the settings do not say whose tokens open the process.
    """
    expected = settings.expectations(host)
    if expected is None:
        log.warning("access.disabled", host=host)
        yield None
        return
    source = key_source(issuer=expected.issuer, file=settings.auth_jwks_file, url=settings.auth_jwks_url)
    async with IssuerKeys.open(source, refresh_seconds=settings.auth_jwks_refresh_seconds) as keys:
        yield Authenticator(expected, keys)

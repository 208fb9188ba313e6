"""The identity provider as OpenID Connect has it: where it signs people in, and what it gives for a code.

Whatever it says comes from elsewhere: its metadata must name the issuer of the settings, each of its addresses is https
or on this machine, redirects are not followed, and an answer has a limit.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx

from chassis.access.issuer_keys import IssuerKeys
from chassis.access.key_sources import (
    ANSWER_BYTES,
    UnusableAnswerError,
    address_in,
    issuer_client,
    key_source,
    metadata_of,
)
from chassis.access.tokens import Expectations
from chassis.outages import describe
from console.settings import ConsoleSettings
from console.sign_in.id_tokens import IdTokens

#: The provider leads back to here, below the console's address; it must know it.
CALLBACK: Final = "/sign-in/callback"
#: It leads to here after it has signed somebody out.
AFTERWARDS: Final = "/sign-in"
#: An issuer's addresses change as seldom as its name.
METADATA_SECONDS: Final = 300.0
#: A provider's own words for a person to read.
_WORDS: Final = 300
_OK: Final = 200
_SERVER_ERROR: Final = 500


class ProviderAwayError(Exception):
    """The identity provider does not answer, or with something that is none of its answers."""


class ProviderRefusedError(Exception):
    """The identity provider refuses what was asked, and says why."""

    def __init__(self, error: str, description: str = "") -> None:
        """`error` is a code of RFC 6749."""
        super().__init__(f"{error}: {description}" if description else error)
        self.error = error


class ProviderTokens(NamedTuple):
    """The tokens that the provider gives for a code, or for a refresh token."""

    access: str
    #: The refresh token. Where there is none the session ends with the access token.
    refresh: str | None
    identity: str | None


class Provider:
    """One identity provider, and the console as its client."""

    def __init__(  # noqa: PLR0913 - what a client is
        self,
        http: httpx.AsyncClient,
        *,
        issuer: str,
        client_id: str,
        secret: str | None,
        scopes: str,
        audience: str,
        console: str,
        identities: IdTokens,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use `open_provider`."""
        self._http, self.issuer, self._client_id, self._secret = http, issuer, client_id, secret
        self._scopes, self._audience, self._console, self._clock = scopes, audience, console, clock
        #: Verifies what it says of who somebody is.
        self.identities: Final = identities
        self._metadata: dict[str, Any] = {}
        self._metadata_at = float("-inf")

    @property
    def name(self) -> str:
        """The name by which people know it: its host."""
        return urlsplit(self.issuer).hostname or self.issuer

    async def sign_in_address(self, *, state: str, nonce: str, challenge: str) -> str:
        """The address to which a browser is led to sign in.

        Raises:
            ProviderAwayError: it cannot be told now.
        """
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": f"{self._console}{CALLBACK}",
            "scope": self._scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            # Some give tokens for nobody where they are not told for whom; others do not know the parameter.
            "audience": self._audience,
        }
        return _with(await self._address("authorization_endpoint"), asked)

    async def sign_out_address(self) -> str | None:
        """The address to which a browser is led to sign out of the provider as well; None where it has no such page.

        No token goes there: nobody's token is in an address. So the provider asks the person.

        Raises:
            ProviderAwayError: it cannot be told now.
        """
        if "end_session_endpoint" not in await self._known():
            return None
        asked = {"client_id": self._client_id, "post_logout_redirect_uri": f"{self._console}{AFTERWARDS}"}
        return _with(await self._address("end_session_endpoint"), asked)

    async def tokens_for_code(self, code: str, verifier: str) -> ProviderTokens:
        """The tokens of a sign-in.

        Raises:
            ProviderRefusedError, ProviderAwayError.
        """
        return await self._tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": f"{self._console}{CALLBACK}",
                "code_verifier": verifier,
            }
        )

    async def tokens_for_refresh(self, refresh: str) -> ProviderTokens:
        """Newer tokens; the refresh token stays what it was where no other comes.

        Raises:
            ProviderRefusedError, ProviderAwayError.
        """
        given = await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh})
        return given if given.refresh is not None else given._replace(refresh=refresh)

    async def _tokens(self, asked: dict[str, str]) -> ProviderTokens:
        address = await self._address("token_endpoint")
        request = self._http.build_request("POST", address, **self._as_client(asked))
        said = await self._ask(request)
        access, refresh, identity = (said.get(name) for name in ("access_token", "refresh_token", "id_token"))
        if not isinstance(access, str) or not all(
            each is None or isinstance(each, str) for each in (refresh, identity)
        ):
            raise ProviderAwayError("its answer has no tokens")
        return ProviderTokens(access, refresh, identity)

    def _as_client(self, asked: dict[str, str]) -> dict[str, Any]:
        """The form, and who sends it, in the way that the provider knows (RFC 6749, section 2.3)."""
        if self._secret is None:
            return {"data": {**asked, "client_id": self._client_id}}
        known = self._metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if "client_secret_basic" in known:
            return {"data": asked, "headers": {"Authorization": _basic(self._client_id, self._secret)}}
        return {"data": {**asked, "client_id": self._client_id, "client_secret": self._secret}}

    async def _ask(self, request: httpx.Request) -> Mapping[str, Any]:
        try:
            answer = await self._http.send(request, stream=True)
            try:
                body = await _read(answer)
            finally:
                await answer.aclose()
            said = json.loads(body)
        except (httpx.HTTPError, ValueError, RecursionError) as error:
            raise ProviderAwayError(describe(error)) from error
        if not isinstance(said, dict) or answer.status_code >= _SERVER_ERROR:
            raise ProviderAwayError(f"it answers {answer.status_code}")
        if answer.status_code != _OK:
            raise refusal(said.get("error"), said.get("error_description"))
        return said

    async def _address(self, name: str) -> str:
        metadata = await self._known()
        try:
            return address_in(metadata, name)
        except UnusableAnswerError as error:
            raise ProviderAwayError(str(error)) from error

    async def _known(self) -> Mapping[str, Any]:
        """The metadata; what is known stays good while nothing newer can be had."""
        if self._clock() - self._metadata_at < METADATA_SECONDS:
            return self._metadata
        try:
            self._metadata = await metadata_of(self.issuer)
        except (httpx.HTTPError, UnusableAnswerError) as error:
            if not self._metadata:
                raise ProviderAwayError(describe(error)) from error
        self._metadata_at = self._clock()
        return self._metadata


def refusal(error: object, description: object) -> ProviderRefusedError:
    """A refusal in the provider's words, of which it may have none, or too many."""
    words = description if isinstance(description, str) else ""
    return ProviderRefusedError((error if isinstance(error, str) and error else "refused")[:_WORDS], words[:_WORDS])


@asynccontextmanager
async def open_provider(settings: ConsoleSettings) -> AsyncIterator[Provider | None]:
    """The provider of the settings, with its keys kept, until the block ends; None where there is none."""
    issuer, client_id = settings.console_oidc_issuer, settings.console_oidc_client_id
    if issuer is None or client_id is None or settings.auth_disabled:
        yield None
        return
    secret = settings.console_oidc_client_secret
    async with (
        issuer_client() as http,
        IssuerKeys.open(
            key_source(issuer=issuer, file=None, url=None), refresh_seconds=settings.auth_jwks_refresh_seconds
        ) as keys,
    ):
        yield Provider(
            http,
            issuer=issuer,
            client_id=client_id,
            secret=secret.get_secret_value() if secret else None,
            scopes=settings.console_oidc_scopes,
            audience=settings.auth_audience or "",
            console=settings.public_console_url,
            identities=IdTokens(
                keys, Expectations(issuer, client_id, settings.auth_algorithms, settings.auth_leeway_seconds)
            ),
        )


def _with(address: str, asked: Mapping[str, str]) -> str:
    """The address with these parameters behind its own."""
    return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(asked)}"


def _basic(client_id: str, secret: str) -> str:
    """Both are encoded as a form's fields first (RFC 6749, section 2.3.1)."""
    text = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"Basic {base64.b64encode(text.encode()).decode('ascii')}"


async def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES:
            raise ValueError(f"it answers more than {ANSWER_BYTES} bytes")
    return bytes(body)

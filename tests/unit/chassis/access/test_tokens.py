"""Right tokens are accepted, and no forged one is, whatever it tries."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from chassis.access.authenticator import Authenticator
from chassis.access.issuer_keys import IssuerKeys
from chassis.access.keys import ALGORITHMS
from chassis.access.tokens import Expectations
from chassis.http.problems import Problem
from tests.unit.chassis.access.forging import (
    AUDIENCE,
    ISSUER,
    NOW,
    SIGNERS,
    STRANGERS,
    certificate,
    claims,
    forged,
    key_set,
    sign,
    strangers_key_set,
)

FORGED = forged()
#: Of an installation that takes few algorithms, and of one that takes all: there a key has to fit its token.
ALLOWED = {"few": ("EdDSA", "ES256", "PS256", "RS256"), "all": tuple(ALGORITHMS)}


@pytest.fixture(params=ALLOWED)
async def authenticator(request: pytest.FixtureRequest) -> AsyncIterator[Authenticator]:
    async def fetch() -> bytes:
        return key_set()

    async with IssuerKeys.open(fetch, refresh_seconds=300) as keys:
        yield Authenticator(Expectations(ISSUER, AUDIENCE, ALLOWED[request.param], 30), keys, now=lambda: NOW)


def test_more_than_two_hundred_forgeries_are_tried() -> None:
    assert len({token for _, token in FORGED}) >= 200


@pytest.mark.parametrize("token", [token for _, token in FORGED], ids=[name for name, _ in FORGED])
async def test_no_forged_token_is_accepted(authenticator: Authenticator, token: str) -> None:
    with pytest.raises(Problem) as refused:
        await authenticator.authenticate(f"Bearer {token}")

    assert refused.value.type.status == 401
    assert refused.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert token not in refused.value.detail or len(token) < 3


async def test_nobody_asks_for_keys_where_a_token_says_they_are(authenticator: Authenticator) -> None:
    asked: list[str] = []
    served = {f"/{key_id}.pem": certificate(key).public_bytes(Encoding.PEM) for key_id, key in STRANGERS.items()}
    served["/jwks.json"] = strangers_key_set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode())
        body = served[asked[-1]]
        writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        bring = [token for name, token in forged(base) if "-brings-" in name]
        for token in bring:
            with pytest.raises(Problem):
                await authenticator.authenticate(f"Bearer {token}")

    assert len(bring) == 8 * len(STRANGERS)
    assert asked == []


@pytest.mark.parametrize("key_id", list(SIGNERS))
@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "JWT", "jwt", "application/at+jwt", "Application/JWT", None])
async def test_a_right_token_of_every_key_and_type_is_accepted(
    authenticator: Authenticator, key_id: str, kind: str | None
) -> None:
    caller = await authenticator.authenticate(f"Bearer {sign(key_id, header={'typ': kind})}")

    assert (caller.issuer, caller.subject, caller.acting) == (ISSUER, "shop", None)
    assert caller.scopes == {"users:read", "users:write"}


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", "muster"]},
        {"nbf": None, "iat": None},
        {"nbf": NOW + 29, "iat": NOW + 30},
        {"exp": NOW - 29},
        {"exp": NOW + 0.5},
        {"scope": None, "scp": "users:read users:write"},
        {"scope": None, "scp": ["users:read", "users:write"]},
        {"scp": ["users:erase"]},
        {"act": {"sub": "support", "act": {"sub": 7}}},
        {"email": "ann@example.com", "jti": 4},
    ],
    ids=str,
)
async def test_claims_may_vary_as_the_standards_let_them(
    authenticator: Authenticator, changes: dict[str, object]
) -> None:
    caller = await authenticator.authenticate(f"Bearer {sign(said=claims(**changes))}")

    assert caller.scopes == {"users:read", "users:write"}


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token abc", "BearerX"], ids=repr)
async def test_without_a_token_the_challenge_has_no_error(authenticator: Authenticator, header: str) -> None:
    with pytest.raises(Problem) as refused:
        await authenticator.authenticate(header)

    assert refused.value.headers["WWW-Authenticate"] == "Bearer"


async def test_the_scheme_is_read_in_whatever_case(authenticator: Authenticator) -> None:
    assert (await authenticator.authenticate(f"bEARER   {sign()}")).subject == "shop"

"""Right tokens are accepted, and no forged one is, whatever it tries."""

from collections.abc import AsyncIterator

import pytest

from chassis.access.authenticator import Authenticator
from chassis.access.issuer_keys import IssuerKeys
from chassis.access.tokens import Expectations
from chassis.http.problems import Problem
from tests.unit.chassis.access.forging import AUDIENCE, ISSUER, NOW, SIGNERS, claims, forged, key_set, sign

FORGED = forged()
EXPECTED = Expectations(ISSUER, AUDIENCE, ("EdDSA", "ES256", "PS256", "RS256"), 30)


@pytest.fixture
async def authenticator() -> AsyncIterator[Authenticator]:
    async def fetch() -> bytes:
        return key_set()

    async with IssuerKeys.open(fetch, refresh_seconds=300) as keys:
        yield Authenticator(EXPECTED, keys, now=lambda: NOW)


def test_more_than_two_hundred_forgeries_are_tried() -> None:
    assert len({token for _, token in FORGED}) >= 200


@pytest.mark.parametrize("token", [token for _, token in FORGED], ids=[name for name, _ in FORGED])
async def test_no_forged_token_is_accepted(authenticator: Authenticator, token: str) -> None:
    with pytest.raises(Problem) as refused:
        await authenticator.authenticate(f"Bearer {token}")

    assert refused.value.type.status == 401
    assert refused.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert token not in refused.value.detail or len(token) < 3


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

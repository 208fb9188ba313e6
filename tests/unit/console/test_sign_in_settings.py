"""The settings of signing in by an identity provider: whole or not at all, and what is asked for is what pages need."""

from typing import Any

import pytest
from pydantic import ValidationError

from console.access import ACCESS
from console.sign_in.settings import SCOPES, ConsoleIssuer

ISSUER = {"CONSOLE_OIDC_ISSUER": "https://login.example.com"}
CLIENT = {"CONSOLE_OIDC_CLIENT_ID": "console"}


@pytest.mark.parametrize("given", [{}, ISSUER | CLIENT, ISSUER | CLIENT | {"CONSOLE_OIDC_CLIENT_SECRET": "x"}])
def test_a_provider_is_there_or_not(given: dict[str, Any]) -> None:
    assert ConsoleIssuer(_env_file=None, **given).console_oidc_issuer == given.get("CONSOLE_OIDC_ISSUER")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (ISSUER, "CONSOLE_OIDC_ISSUER is set and this is not"),
        (CLIENT, "CONSOLE_OIDC_ISSUER is not"),
        ({"CONSOLE_OIDC_CLIENT_SECRET": "x"}, "CONSOLE_OIDC_ISSUER is not"),
        (CLIENT | {"CONSOLE_OIDC_ISSUER": "http://login.example.com"}, "https"),
        (ISSUER | CLIENT | {"CONSOLE_OIDC_SCOPES": "users:read"}, "openid"),
    ],
)
def test_half_of_one_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ConsoleIssuer(_env_file=None, **given)


def test_what_is_asked_for_is_what_the_pages_need() -> None:
    assert set(SCOPES.split(" ")) == {"openid", *(scope for rule in ACCESS for scope in rule.scopes)}

"""The settings that a maker of links to sign in with must know of the console, beside its database."""

from __future__ import annotations

from typing import Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from chassis.access.key_sources import trustworthy
from chassis.settings import HttpUrl, SecretList, Settings, secrets_of

#: The scopes that the pages need; a test compares them with their table of access.
SCOPES: Final = (
    "openid users:read users:write users:erase credentials:issue events:read operations:read operations:write"
)


class ConsoleAddress(Settings):
    """The address at which browsers reach the console."""

    #: Cookies are for https alone where this has it.
    public_console_url: HttpUrl = Field(
        "http://127.0.0.1:8004", validation_alias="PUBLIC_CONSOLE_URL", examples=["https://console.example.com"]
    )


class ConsoleSecrets(Settings):
    """The secrets that seal sessions and links."""

    #: A list, so that one can be replaced: the first seals, all open.
    console_secret: SecretList = Field(
        validation_alias="CONSOLE_SECRET", examples=["32-random-characters-or-many-more"]
    )

    @property
    def seals(self) -> list[str]:
        """The secrets, the one that seals first."""
        return secrets_of(self.console_secret)


class ConsoleIssuer(Settings):
    """The issuer that signs operators in by OpenID Connect, where one does."""

    #: Each of these is checked against those before it. An issuer is compared to the letter.
    console_oidc_issuer: str | None = Field(
        None, validation_alias="CONSOLE_OIDC_ISSUER", examples=["https://login.example.com"]
    )
    console_oidc_client_id: str | None = Field(
        None, validate_default=True, validation_alias="CONSOLE_OIDC_CLIENT_ID", examples=["muster-console"]
    )
    #: The console is a public client without one, which PKCE protects.
    console_oidc_client_secret: SecretStr | None = Field(
        None, validation_alias="CONSOLE_OIDC_CLIENT_SECRET", examples=["what-the-issuer-says"]
    )
    #: Issuers name scopes in their own ways, and some want `offline_access` for tokens that can be renewed.
    console_oidc_scopes: str = Field(
        SCOPES, validation_alias="CONSOLE_OIDC_SCOPES", examples=["openid offline_access operations:read"]
    )

    _trustworthy = field_validator("console_oidc_issuer")(trustworthy)

    @field_validator("console_oidc_scopes")
    @classmethod
    def _asks_who_it_is(cls, value: str) -> str:
        if "openid" not in value.split(" "):
            raise ValueError("must have openid among them, separated by single spaces: without it nobody is named")
        return value

    @field_validator("console_oidc_client_id")
    @classmethod
    def _comes_with_the_issuer(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("console_oidc_issuer"):
            raise ValueError("CONSOLE_OIDC_ISSUER is set and this is not: set both or neither")
        if value is not None and info.data.get("console_oidc_issuer", "") is None:
            raise ValueError("this is set and CONSOLE_OIDC_ISSUER is not: set both or neither")
        return value

    @field_validator("console_oidc_client_secret")
    @classmethod
    def _is_for_a_client(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("console_oidc_client_id", "") is None:
            raise ValueError("this is set and CONSOLE_OIDC_ISSUER is not: set it as well")
        return value

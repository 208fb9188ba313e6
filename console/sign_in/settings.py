"""What whoever makes a link to sign in with must know of the console, beside its database."""

from __future__ import annotations

from pydantic import Field, field_validator

from chassis.settings import SecretList, Settings, http_url, secrets_of


class ConsoleAddress(Settings):
    """Where browsers reach the console."""

    #: With https cookies are for https alone.
    public_console_url: str = Field(
        "http://127.0.0.1:8004", validation_alias="PUBLIC_CONSOLE_URL", examples=["https://console.example.com"]
    )

    @field_validator("public_console_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value)


class ConsoleSecrets(Settings):
    """What sessions and links are sealed with."""

    #: A list, so that one can be replaced: the first seals, all open.
    console_secret: SecretList = Field(
        validation_alias="CONSOLE_SECRET", examples=["32-random-characters-or-many-more"]
    )

    @property
    def seals(self) -> list[str]:
        """The secrets, the one that seals first."""
        return secrets_of(self.console_secret)

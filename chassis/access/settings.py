"""Whose tokens open an API. A process that holds people's data starts closed: without an answer it does not start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import NoDecode

from chassis.access.key_sources import is_trustworthy, trustworthy
from chassis.access.keys import ALGORITHMS
from chassis.access.rates import rate_text
from chassis.access.tokens import Expectations
from chassis.http.loopback import is_loopback
from chassis.settings import Http, Settings
from chassis.settings_error import SettingsError
from chassis.tracing.settings import Tracing

_BOTH_WAYS: Final = (
    "either AUTH_ISSUER and AUTH_AUDIENCE name whose tokens open this API, for example"
    " AUTH_ISSUER=https://login.example.com AUTH_AUDIENCE=muster, or AUTH_DISABLED=true lets everybody in, on a"
    " loopback address alone"
)

_NO_KEYS: Final = (
    "AUTH_ISSUER is no https address at which its keys could be found: set AUTH_JWKS_FILE or AUTH_JWKS_URL, for example"
    " AUTH_JWKS_FILE=/etc/muster/jwks.json"
)


class AccessSettings(Settings):
    """The issuer that an API trusts."""

    auth_issuer: str | None = Field(None, validation_alias="AUTH_ISSUER", examples=["https://login.example.com"])
    auth_audience: str | None = Field(None, validation_alias="AUTH_AUDIENCE", examples=["muster"])
    auth_jwks_file: Path | None = Field(None, validation_alias="AUTH_JWKS_FILE", examples=["/etc/muster/jwks.json"])
    auth_jwks_url: str | None = Field(
        None, validation_alias="AUTH_JWKS_URL", examples=["https://login.example.com/jwks.json"]
    )
    #: A key that the issuer has removed is trusted this long at most; a new one is also looked for when it is met.
    auth_jwks_refresh_seconds: int = Field(
        300, ge=1, le=86_400, validation_alias="AUTH_JWKS_REFRESH_SECONDS", examples=[300]
    )
    auth_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        ("EdDSA", "ES256", "PS256", "RS256"), validation_alias="AUTH_ALGORITHMS", examples=["EdDSA,ES256"]
    )
    #: Clocks differ.
    auth_leeway_seconds: int = Field(30, ge=0, le=300, validation_alias="AUTH_LEEWAY_SECONDS", examples=[30])
    auth_disabled: bool = Field(False, validation_alias="AUTH_DISABLED", examples=["true"])

    @field_validator("auth_algorithms", mode="before")
    @classmethod
    def _known(cls, value: object) -> tuple[str, ...]:
        names = value.split(",") if isinstance(value, str) else value
        found = tuple(str(name).strip() for name in names) if isinstance(names, list | tuple) else ()
        if not found or not set(found) <= set(ALGORITHMS):
            raise ValueError(f"must be of {', '.join(ALGORITHMS)}, separated by commas; only asymmetric ones exist")
        return found

    _trustworthy = field_validator("auth_jwks_url")(trustworthy)

    def expectations(self, host: str) -> Expectations | None:
        """Return what a token must say, None where access is off; the process listens on `host`.

        Raises:
            SettingsError: there is neither a possible issuer nor a possible AUTH_DISABLED; it names both ways out.
        """
        if self.auth_disabled:
            if self.auth_issuer:
                raise SettingsError([f"AUTH_DISABLED and AUTH_ISSUER are both set: {_BOTH_WAYS}"])
            if not is_loopback(host):
                raise SettingsError([f"AUTH_DISABLED is not for an address that others reach ({host}): {_BOTH_WAYS}"])
            return None
        if not self.auth_issuer:
            raise SettingsError([f"AUTH_ISSUER is missing: {_BOTH_WAYS}"])
        if not self.auth_audience:
            raise SettingsError([f"AUTH_AUDIENCE is missing: {_BOTH_WAYS}"])
        if self.auth_jwks_file and self.auth_jwks_url:
            raise SettingsError(["AUTH_JWKS_FILE and AUTH_JWKS_URL are both set: keep one of them, by which keys come"])
        if not (self.auth_jwks_file or self.auth_jwks_url or is_trustworthy(self.auth_issuer)):
            raise SettingsError([_NO_KEYS])
        return Expectations(self.auth_issuer, self.auth_audience, self.auth_algorithms, self.auth_leeway_seconds)


class GuardedHttp(Http, AccessSettings, Tracing):
    """The settings of every API: HTTP, whose tokens open it, and where its traces go."""

    @property
    def rates(self) -> Mapping[str, str]:
        """The rate of each class of requests; none without limits."""
        return {}


class LimitedReads(GuardedHttp):
    """The settings of every API that answers reads."""

    rate_limit_reads: Annotated[str, AfterValidator(rate_text)] = Field(
        "off", validation_alias="RATE_LIMIT_READS", examples=["50/s"]
    )

    @property
    def rates(self) -> Mapping[str, str]:
        """The rate of reads."""
        return {"reads": self.rate_limit_reads}

"""One-time tokens, the pure part: what may be asked for, how one is made, and when it still holds.

A token is 256 random bits for whoever sends it to the user, by mail as a rule. Muster keeps its SHA-256 alone: nobody
guesses 256 bits, so neither a salt nor a slow hash is needed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Secret, SecretStr, TypeAdapter, WithJsonSchema

from command_api.passwords.rules import RULES
from command_api.users.values import Password
from events.times import Time
from events.user_events import PublicUser

Purpose: TypeAlias = Literal["password-reset", "email-verification"]
RESET: Final = "password-reset"

TOKEN_BYTES: Final = 32
#: A minute is enough for a login page that redeems at once, a week for a letter.
TTL_SECONDS: Final = (60, 604_800)
#: A reset is asked for by whoever waits for it; a verification may wait in a mailbox overnight.
DEFAULT_TTL_SECONDS: Final[dict[Purpose, int]] = {"password-reset": 3600, "email-verification": 86_400}

#: Judged only once the token has been found good, so that it says nothing to whoever has none.
_LATER: Final = WithJsonSchema(TypeAdapter(Password).json_schema())


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _whole(number: object) -> object:
    """JSON has one kind of number: 60.0 is the integer 60."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


class IssueToken(_Body):
    """A token of this purpose for a user; an older one of the purpose ends."""

    purpose: Purpose
    ttl_seconds: Annotated[int | None, BeforeValidator(_whole)] = Field(
        default=None,
        strict=True,
        ge=TTL_SECONDS[0],
        le=TTL_SECONDS[1],
        description="How long it holds; without it 3600 for a reset, 86400 for a verification.",
    )

    @property
    def ttl(self) -> timedelta:
        """The time for which the token holds."""
        return timedelta(seconds=self.ttl_seconds or DEFAULT_TTL_SECONDS[self.purpose])


class RedeemToken(_Body):
    """A token that came back from the user, and for a reset the password that they chose."""

    token: SecretStr = Field(description="As it was issued.")
    password: Annotated[Secret[Any] | None, _LATER] = Field(
        default=None, description=f"A reset needs it, a verification may not have it. {RULES}"
    )


class IssuedToken(BaseModel):
    """A new token: here for the only time."""

    token: str
    purpose: Purpose
    expires_at: Time


@dataclass(frozen=True, slots=True)
class KnownToken:
    """A token that was found, and its user as of the same moment."""

    purpose: Purpose
    expires_at: datetime
    #: True where the user still has the password, or the address, of the time of issue.
    unchanged: bool
    user: PublicUser

    def holds(self, now: datetime) -> bool:
        """True where it can be redeemed."""
        return self.unchanged and self.user.is_active and now < self.expires_at


def new_token() -> str:
    """A token: 43 characters of base64url."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> bytes:
    """The digest that is stored of a token, and by which it is found; any text has one."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()

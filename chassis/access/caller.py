"""A caller: the subject behind a request, who acts for it, and what its token opens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote
from uuid import UUID

#: The scope of a user's own token.
SELF: Final = "self"
#: Longer actors are refused: they travel with every event.
LONGEST_ACTOR: Final = 255
#: `quote` leaves letters, digits and `_.-~` alone; these as well.
_ALSO_PLAIN: Final = ":|"
_DIGEST_PREFIX: Final = "sha256:"
_DIGEST_DIGITS: Final = 32
#: Actors that Muster itself writes; a token that claims one is refused.
_RESERVED: Final = re.compile(r"self|(?:cli|sha256):.*", re.IGNORECASE | re.DOTALL)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class InvalidActorError(ValueError):
    """A subject that cannot be written into an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request: verified, or nobody in particular where access is switched off."""

    issuer: str
    subject: str
    #: RFC 8693's `act.sub`, the outermost: who acts on behalf of the subject.
    acting: str | None = None
    scopes: frozenset[str] = frozenset()

    @property
    def identity(self) -> str:
        """Who it is, as one text: issuer, subject, and who acts."""
        return "\0".join((self.issuer, self.subject, self.acting or ""))

    @property
    def user_id(self) -> UUID | None:
        """The user that the subject is; None where it is no id."""
        return UUID(self.subject) if _UUID.fullmatch(self.subject) else None

    def actor(self, subject_id: UUID | None = None) -> str:
        """Who acts, as an event about `subject_id` says it: `self` for the subject itself."""
        who = self.acting if self.acting is not None else self.subject
        return SELF if subject_id is not None and who.lower() == str(subject_id) else encode_actor(who)

    @property
    def on_behalf_of(self) -> str | None:
        """The subject, as an event says it, where somebody else acts for it."""
        return None if self.acting is None else encode_actor(self.subject)


class Grant(NamedTuple):
    """A caller, and how long its token lets it stay, for answers that go on."""

    caller: Caller
    #: Seconds until the token ends; none once the issuer has removed the key that signed it.
    seconds_left: Callable[[], float]


def encode_actor(subject: str) -> str:
    """Return a subject for headers and logs: without a person's address or characters that need quoting.

    Characters outside `[A-Za-z0-9._:|-]` are percent-encoded as UTF-8; what has an `@` in it becomes `sha256:` and the
    first 32 hex digits of its digest.

    Raises:
        InvalidActorError: it is empty, reserved, too long, or no text.
    """
    if not subject or _RESERVED.fullmatch(subject):
        raise InvalidActorError("is empty or reserved")
    return _encode(subject)


def cli_actor(system_user: str) -> str:
    """The system's user who runs a command that writes to a database itself, as `encode_actor` writes others.

    Raises:
        InvalidActorError: the name is too long, or no text.
    """
    return f"cli:{_encode(system_user)}"


def _encode(subject: str) -> str:
    try:
        raw = subject.encode()
    except UnicodeEncodeError as error:
        raise InvalidActorError("is no Unicode text") from error
    if "@" in subject:
        return _DIGEST_PREFIX + hashlib.sha256(raw).hexdigest()[:_DIGEST_DIGITS]
    encoded = quote(raw, safe=_ALSO_PLAIN).replace("~", "%7E")
    if len(encoded) > LONGEST_ACTOR:
        raise InvalidActorError(f"has more than {LONGEST_ACTOR} characters encoded")
    return encoded

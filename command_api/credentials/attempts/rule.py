"""The rule on guesses of passwords: its numbers, and whose attempts are counted together.

Attempts with a valid device token (device_tokens.py) have a counter of their own. All others that name one address or
one username share one, whether it belongs to somebody or not: a crowd of guessers is one guesser, and cannot lock out a
device that has logged in before. A counter refuses when it has so many failures within a window, unread and for a while
that doubles with each failure beyond; nothing locks for ever. A success lets it begin anew, so that the owner's own
mistakes are forgotten; but all failures of a window, those before a success too, have a bound of their own, beyond
which each is followed by the longest refusal. docs/explanation/login-throttling.md says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from chassis.text_keys import email_key, text_key
from command_api.credentials.keys import CredentialKeys
from events.user_events import PublicUser

#: An address has this in it, and a username may not.
AT = "@"


class TooManyAttemptsError(Exception):
    """The counter refuses for so many seconds; no password was looked at."""

    def __init__(self, seconds: int) -> None:
        """Keep the seconds, for the answer's Retry-After."""
        super().__init__(seconds)
        self.seconds = seconds


class FloodError(TooManyAttemptsError):
    """The line of the counter is full; those in it may still succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """The numbers of the rule."""

    #: The counter refuses after so many failures within the window.
    failures: int = 10
    window: timedelta = timedelta(hours=1)
    first_refusal: timedelta = timedelta(minutes=1)
    longest_refusal: timedelta = timedelta(minutes=15)
    #: The counter refuses after so many failures within the window, whatever succeeded between them, and each is
    #: followed by the longest refusal: four more in an hour. Successes are the owner's, and would else let guessers
    #: begin anew. An account has an e-mail and a username, and 16 guesses by its own access tokens: together fewer than
    #: the 100 of NIST SP 800-63B-4.
    most: int = 35

    @property
    def refusals(self) -> list[timedelta]:
        """The refusals after the last of `failures`, after the next one, and so on; the last stays."""
        steps = [min(self.first_refusal, self.longest_refusal)]
        while steps[-1] < self.longest_refusal:
            steps.append(min(2 * steps[-1], self.longest_refusal))
        return steps


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of somebody's attempts: nothing in it can be read back."""

    kind: Literal["identifier", "device", "self"]
    digest: bytes


def identifier_key(identifier: str) -> str:
    """The key by which an identifier is looked for: with an `@` it is an address, else a username."""
    return email_key(identifier) if AT in identifier else text_key(identifier)


def of_identifier(keys: CredentialKeys, key: str) -> Counter:
    """The counter that all share who name this address or username by its key, and come from no known device."""
    return Counter("identifier", keys.counter("identifier", key))


def of_device(keys: CredentialKeys, nonce: bytes) -> Counter:
    """The counter of one device token."""
    return Counter("device", keys.counter("device", nonce.hex()))


def of_self(keys: CredentialKeys, user_id: UUID) -> Counter:
    """The counter of a user's own access tokens."""
    return Counter("self", keys.counter("self", str(user_id)))


def moved_counters(keys: CredentialKeys, before: PublicUser, after: PublicUser) -> list[tuple[Counter, Counter]]:
    """The counters of the old key and of the new one, for each identifier whose key changed."""
    changed = zip(_keys_of(before), _keys_of(after), strict=True)
    return [(of_identifier(keys, old), of_identifier(keys, new)) for old, new in changed if old != new]


def _keys_of(user: PublicUser) -> tuple[str, str]:
    return email_key(user.email), text_key(user.username)


def counters_of_account(keys: CredentialKeys, user: PublicUser) -> list[bytes]:
    """The digests of every counter of an account but those of its devices, whose tokens end with the password."""
    by_key = [of_identifier(keys, key) for key in _keys_of(user)]
    return [counter.digest for counter in (*by_key, of_self(keys, user.id))]

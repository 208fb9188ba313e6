"""Decode: a record of the topic becomes a `UserEvent`, an `Erased`, or an `Unknown` that says why it is neither.

This is the first thing a subscriber does with a record. Nothing here raises, whatever the bytes are. What Muster may
add to its events later is ignored, as the contract says (docs/reference/events-contract.md): fields, headers, values of
open enumerations. A type or version that this kit does not know is `Unknown`, and a subscriber may go on behind it.

A record that looks as the relay writes it is read without an envelope; any other is read header by header. Both ways
give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, NotRequired
from uuid import UUID

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict  # pydantic needs it, and this one, before Python 3.12

from .catalogue import Catalogue, InvalidEventError, UnknownEventError, first_line
from .envelope import EnvelopeError, is_actor, read_envelope
from .user_events import USER_EVENTS, PublicUser

#: A version is a bigint wherever Muster keeps it.
MAX_VERSION: Final = 2**63 - 1
_UUID_CHARACTERS: Final = 36
#: The headers that are read here; any other may be absent, or hold any bytes.
_READ: Final = frozenset(
    ("ce_id", "ce_source", "ce_type", "ce_subject", "ce_sequence", "ce_time", "ce_actor", "ce_onbehalfof")
)
#: Two ids once every hexadecimal digit is a 0.
_HEX_TO_0: Final = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_TWO_IDS: Final = b"00000000-0000-0000-0000-000000000000" * 2
#: Numbers: to look for a byte by a text of one byte takes thrice the time.
_N, _I = b"NI"
#: Named here, since each look-up costs.
_time: Final = datetime.fromisoformat
_new: Final = tuple.__new__
#: At most so many characters of a text that others wrote are shown.
_EXCERPT: Final = 80

Headers = Sequence[tuple[str, bytes | None]]


class User(PublicUser):
    """The public user as a subscriber reads it: fields that this kit does not know are ignored.

    `decode` takes a value for the type that the contract gives it alone: "yes" is no boolean and 1700000000 no time.
    Upper limits are not looked at, as they may be raised.
    """

    # No two users share their strings: to look for each among those of before takes 4 % of the decoding.
    model_config = ConfigDict(extra="ignore", cache_strings="keys")

    email: str = Field(pattern=".@.")
    username: str = Field(min_length=1)
    #: `active`, `deactivated`, or what a later Muster says: treat what you do not know as you treat `deactivated`.
    status: str  # type: ignore[assignment] # open for those who read, closed for those who write


class UserEvent(NamedTuple):
    """A change of a user, or a snapshot: the user after it, and the old values of what changed."""

    #: `ce_id`: the same however often this event is delivered.
    id: str
    #: Such as `muster.user.email_changed.v1`.
    type: str
    #: The user's version after the event: ignore an event whose version is not greater than the one you have.
    version: int
    #: When the change was made.
    time: datetime
    user: User
    #: Empty for `registered` and snapshots.
    previous: dict[str, Any]
    #: The one who made the change, `self` for the user; None where access was off.
    actor: str | None = None
    #: The one for whom it was made, where the actor acted for somebody else.
    on_behalf_of: str | None = None
    #: Why the user was deactivated or reactivated, where somebody said so.
    reason: str | None = None

    @property
    def user_id(self) -> UUID:
        """The id of the user."""
        return self.user.id


class Erased(NamedTuple):
    """The person is to be forgotten: remove everything that is kept of them, whichever version that has."""

    id: str
    user_id: UUID
    #: The version that the erasure took. One that is published again may have the version of your copy: it acts, too.
    version: int
    time: datetime
    actor: str | None = None
    on_behalf_of: str | None = None


class Unknown(NamedTuple):
    """No event that this kit can read."""

    #: Says what is wrong, in a sentence.
    reason: str
    #: `ce_type`, where there is one.
    type: str | None = None
    #: The record's: of a user's record the id, whose later records may come all the same.
    key: bytes | None = None
    #: The place of the record, to set it aside by; None of `decode`, which is not told it.
    partition: int | None = None
    offset: int | None = None


Decoded = UserEvent | Erased | Unknown


class _Data(TypedDict):
    """The value of every event, unknown members left out. A model of its own would cost a tenth of the decoding."""

    user: User
    previous: NotRequired[dict[str, Any]]
    reason: NotRequired[str | None]


_validate: Final[Callable[..., _Data]] = TypeAdapter(_Data).validator.validate_json


class _UnreadableError(ValueError):
    """The record is no event of this kit's; the message says why."""


class Decoder:
    """Decodes the records of one catalogue of users' events; the tests have another than `decode`."""

    def __init__(self, catalogue: Catalogue[Any, Any]) -> None:
        """Derive from the catalogue what the relay writes."""
        self._catalogue = catalogue
        self._source = catalogue.source.encode()
        self._newest = {type_.encode(): type_ for type_ in catalogue.classes if catalogue.is_newest(type_)}

    def read(self, key: bytes | None, headers: Headers, value: bytes | None) -> Decoded:
        """Read a record; never raises, whatever the bytes."""
        # Calls cost, so all that nearly every record needs is in this one.
        try:
            found: dict[str, Any] = dict(headers)
            type_, id_, sequence = self._newest[found["ce_type"]], found["ce_id"], found["ce_sequence"]
            if (
                key is None
                or value is None
                or found["ce_subject"] != key
                or found["ce_source"] != self._source
                or len(found) != len(headers)
                or len(key) != _UUID_CHARACTERS
                or (id_ + key).translate(_HEX_TO_0) != _TWO_IDS
                # No JSON, but pydantic would take it. A single byte is found in a fraction of the time.
                or (_N in value and b"NaN" in value)
                or (_I in value and b"Infinity" in value)
            ):
                return self.read_thoroughly(key, headers, value)
            data = _validate(value, strict=True)
            user, time = data["user"], _time(found["ce_time"].decode())
            version = user.version
            if (
                sequence != b"%020d" % version
                or version > MAX_VERSION
                or user.id.int != int(key.replace(b"-", b"_"), 16)
                or time.tzinfo is None
            ):
                return self.read_thoroughly(key, headers, value)
            previous, reason = data["previous"], data.get("reason")
            actor = _actor(found["ce_actor"]) if "ce_actor" in found else None
            for_whom = _actor(found["ce_onbehalfof"]) if "ce_onbehalfof" in found else None
            # As UserEvent(…), in half the time.
            return _new(UserEvent, (id_.decode(), type_, version, time, user, previous, actor, for_whom, reason))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return self.read_thoroughly(key, headers, value)

    def read_thoroughly(self, key: bytes | None, headers: Headers, value: bytes | None) -> Decoded:
        """Header by header: what decides, and says what is wrong."""
        try:
            return self._read(key, headers, value)
        except (EnvelopeError, UnknownEventError, InvalidEventError, _UnreadableError) as error:
            reason = str(error)
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"
        return Unknown(reason, _type(headers), key)

    def _read(self, key: bytes | None, headers: Headers, value: bytes | None) -> UserEvent | Erased:
        source = _text(headers, "ce_source")
        if source != self._catalogue.source:
            raise _UnreadableError(f"ce_source is {source!r}, not {self._catalogue.source!r}")
        envelope = read_envelope([(name, content) for name, content in headers if name in _READ])
        if _subject(key) != envelope.subject_id:
            raise _UnreadableError(f"the key is not ce_subject, {envelope.subject_id}")
        if not 0 < envelope.version <= MAX_VERSION:
            raise _UnreadableError(f"ce_sequence is {envelope.version}, which is no version")
        if envelope.time.tzinfo is None:
            raise _UnreadableError("ce_time names no time zone")
        id_, version, time = str(envelope.event_id), envelope.version, envelope.time
        actor, for_whom = envelope.actor, envelope.on_behalf_of
        if value is None or envelope.type == self._catalogue.tombstone_type:
            if value is not None or envelope.type != self._catalogue.tombstone_type:
                raise _UnreadableError(f"a tombstone, and nothing else, has no value; ce_type is {envelope.type!r}")
            return Erased(id_, envelope.subject_id, version, time, actor, for_whom)
        data = self._data(envelope.type, value)
        user, previous, reason = data["user"], data.get("previous", {}), data.get("reason")
        if (user.id, user.version) != (envelope.subject_id, version):
            raise _UnreadableError("id or version of the user in the value are not those of the headers")
        return UserEvent(id_, envelope.type, version, time, user, previous, actor, for_whom, reason)

    def _data(self, type_: str, value: bytes) -> _Data:
        try:
            parsed = from_json(value, allow_inf_nan=False)
            data = self._catalogue.upcast(type_, parsed)
            # From JSON, so that both ways read alike, and strictly: there times and ids are texts all the same.
            return _validate(value if data is parsed else to_json(data), strict=True)
        except UnknownEventError:
            raise
        except (ValueError, LookupError, TypeError) as error:
            raise InvalidEventError(f"the value is no {type_}: {first_line(error)}") from error


_decoder: Final = Decoder(USER_EVENTS)
#: The first thing a subscriber does with a record.
decode: Final = _decoder.read


def _subject(key: bytes | None) -> UUID | None:
    if key is None or len(key) != _UUID_CHARACTERS:
        raise _UnreadableError("the key is no user's id")
    return UUID(key.decode("ascii"))


def _actor(value: bytes | None) -> str | None:
    if value is None:
        return None
    text = value.decode()
    if not is_actor(text):
        raise _UnreadableError("no actor")
    return text


def _type(headers: Headers) -> str | None:
    try:
        return _text(headers, "ce_type")
    except (ValueError, TypeError, AttributeError):
        return None  # no headers, or of other types than they should be


def _text(headers: Headers, name: str) -> str | None:
    """The last header of that name; an excerpt, whatever its bytes."""
    found = None
    for known, value in headers:
        if known == name and value is not None:
            found = value[:_EXCERPT].decode(errors="backslashreplace")
    return found

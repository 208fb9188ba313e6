"""The lines of an import: each is one user, checked on its own, so that a bad one never fails its neighbours."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Self, TypeAlias
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from chassis.clock import EPOCH, milliseconds, read_rfc3339
from chassis.http.problems import LISTED_ERRORS
from chassis.identifiers import canonical, time_in
from chassis.strict_json import RepeatedMemberError, UnreadableJsonError, read_json
from command_api.passwords.formats import HASH_CHARACTERS, check
from command_api.users.commands import ImportsUser
from command_api.users.refusals import PasswordRefusedError
from command_api.users.values import Password

#: Lines of one request: an import of millions is sent in many, and each answer tells how far it got.
LINES: Final = 10_000
#: Bytes of one request, held in memory until it is answered.
IMPORT_BYTES: Final = 16 * 1024 * 1024
#: The limit is that of the body of POST /users.
LINE_BYTES: Final = 64 * 1024
_TOO_LONG_HELP: Final = "store less in its attributes, or see whether the end of a line is missing"


def _version_7(identifier: UUID) -> UUID:
    if identifier.version != 7:
        raise ValueError("is no UUIDv7; make one that is, or leave it out")
    return identifier


def _since_1970(given: Any) -> datetime:
    if not isinstance(given, str):
        raise ValueError("must be a text, an RFC 3339 time such as 2026-11-22T08:30:00Z")  # noqa: TRY004 - pydantic's
    time = read_rfc3339(given)
    if time < EPOCH:
        raise ValueError("is before 1970; the earliest time that an id can have is 1970-01-01T00:00:00Z")
    return time


CreatedAt = Annotated[
    datetime,
    BeforeValidator(_since_1970),
    Field(
        description="Since when the user exists, 1970 to now; an id's time must be that millisecond. Default: now.",
        examples=["2019-03-04T05:06:07.089Z"],
    ),
]


class ImportLine(ImportsUser):
    """A user to register, who may bring an id, and a hash in place of a password, or neither."""

    created_at: CreatedAt | None = None
    id: Annotated[
        UUID | None,
        BeforeValidator(canonical),
        AfterValidator(lambda given: given and _version_7(given)),
        Field(description="A UUIDv7. Where a user has it already the line changes nothing: repeating is harmless."),
    ] = None
    password: Password | None = None
    password_hash: Annotated[
        str | None,
        AfterValidator(lambda given: given if given is None else check(given)),
        WithJsonSchema({"type": "string", "maxLength": HASH_CHARACTERS, "writeOnly": True}),
        Field(
            description="Argon2, bcrypt, PBKDF2 or scrypt in PHC or modular crypt form, or as Django or Firebase has"
            " it; taken as it is. null, without a password, for a user who has none and is sent a one-time token."
        ),
    ] = None

    @field_validator("created_at")
    @classmethod
    def _is_over(cls, created_at: datetime | None, info: ValidationInfo) -> datetime | None:
        assert info.context, "who reads a line says what time it is"
        if created_at and created_at > info.context["now"]:
            raise ValueError("is later than now; send a time that is over")
        return created_at

    @field_validator("id")
    @classmethod
    def _is_as_old_as_the_user(cls, identifier: UUID | None, earlier: ValidationInfo) -> UUID | None:
        created_at = earlier.data.get("created_at")
        if identifier and created_at and time_in(identifier) != milliseconds(created_at):
            raise ValueError("has another time in it than created_at, to the millisecond; leave one of them out")
        return identifier

    @model_validator(mode="after")
    def _has_one_secret(self) -> Self:
        if self.password is not None and self.password_hash is not None:
            raise ValueError("has both password and password_hash; give one of them")
        if not self.model_fields_set & {"password", "password_hash"}:
            raise ValueError("needs password or password_hash; null says that the user has no password")
        return self


class UnreadableLineError(ValueError):
    """The line is no JSON in UTF-8, or too long; says which."""


class WrongValuesError(ValueError):
    """Some of the line's values are wrong: the first of pydantic's errors, and how many there are.

    The rest is let go at once. A line can have ten thousand unknown fields, and a batch a thousand such lines.
    """

    def __init__(self, error: ValidationError) -> None:
        """Keep what is told."""
        super().__init__("some values are wrong")
        self.errors = error.errors(include_url=False, include_input=False, include_context=False)[:LISTED_ERRORS]
        self.count = error.error_count()


#: Why a line is no user: it cannot be read, says something twice, some of its values are wrong, or its password may not
#: be chosen.
LineError: TypeAlias = UnreadableLineError | RepeatedMemberError | WrongValuesError | PasswordRefusedError


#: A line by its number, the first being 1, and its bytes: the user it is, or what is wrong with it.
ReadLine: TypeAlias = tuple[int, int, ImportLine | LineError]


def count_lines(body: bytes) -> int:
    """The lines of a body, empty ones included."""
    return body.count(b"\n") + (1 if body and not body.endswith(b"\n") else 0)


def read_lines(body: bytes, now: datetime) -> Iterator[ReadLine]:
    """Read each line that is not empty; no user may be younger than `now`."""
    for number, line in enumerate(_split(body), start=1):
        if line.strip():
            yield number, len(line), _read(line, now)


def _split(body: bytes) -> Iterator[bytes]:
    """Line by line, without a list of them all beside the body; a byte order mark before the first is passed over."""
    start = len(BOM_UTF8) if body.startswith(BOM_UTF8) else 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        yield body[start:end]
        start = end + 1


def _read(line: bytes, now: datetime) -> ImportLine | LineError:
    if len(line) > LINE_BYTES:
        return UnreadableLineError(f"has {len(line)} bytes, {LINE_BYTES} at most; {_TOO_LONG_HELP}")
    try:
        return ImportLine.model_validate(read_json(line.decode()), context={"now": now})
    except UnicodeDecodeError:
        return UnreadableLineError("is not UTF-8")
    except UnreadableJsonError as error:
        return UnreadableLineError(str(error))
    except RepeatedMemberError as error:
        return error
    except ValidationError as error:
        return WrongValuesError(error)

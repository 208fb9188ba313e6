"""The values of a user, each with its limits. What is wrong with a value is said with the limit and what to do.

A value is normalised here, once, before anything is decided. The OpenAPI document shows the limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, Final
from unicodedata import category, normalize

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, SecretStr, WithJsonSchema, validate_email
from pydantic_core import to_json

from command_api.passwords.rules import LEAST_CHARACTERS, MOST_CHARACTERS, RULES

#: RFC 5321, section 4.5.3.1.3, as erratum 1690 to RFC 3696 reads it: a path has 256 characters, brackets included.
EMAIL_CHARACTERS: Final = 254
#: RFC 5321, section 4.5.3.1.1.
_LOCAL_CHARACTERS: Final = 64
#: An address without a space, a bracket or a NUL.
_PLAIN: Final = re.compile(r"([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)@([^@<>\s\x00]+)")
#: Domains whose normal form is cached, a few hundred bytes each.
_DOMAINS: Final = 4096
USERNAME_CHARACTERS: Final = (3, 50)
#: A local part, an `@`, and a domain by its A-labels, of which RFC 1035 allows 253 characters.
IDENTIFIER_CHARACTERS: Final = _LOCAL_CHARACTERS + 1 + 253
#: Glyphs that show nothing: a Braille pattern, a filler of the Khitan script, a null notehead.
_BLANK: Final = "\u2800\U00016fe4\U0001d159"
#: Every character whose NFKC is an `@`.
_AT_SIGNS: Final = "@\ufe6b\uff20"
#: Unicode calls these Default_Ignorable_Code_Point (DerivedCoreProperties, 16.0), which Python does not tell; the blank
#: glyphs stand beside them. Two names that differ in one of these alone look the same.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    rf"\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff{_BLANK}]"
)
#: Combining marks on one character; Vietnamese has two, pointed Hebrew three.
_MARKS: Final = 3
#: Categories of marks: those over, under and around a character, and those that take room of their own.
_STACKED: Final = frozenset({"Mn", "Me"})
_SPACING: Final = "Mc"
#: The policy asks more of a new password, more characters perhaps.
PASSWORD_CHARACTERS: Final = (LEAST_CHARACTERS, MOST_CHARACTERS)
DISPLAY_NAME_CHARACTERS: Final = 200
REASON_CHARACTERS: Final = 500
#: An event carries attributes twice, the new and the old: 16 KiB keeps records small and pages of users quick.
ATTRIBUTES_BYTES: Final = 16 * 1024
#: The object itself is level 1.
ATTRIBUTES_DEPTH: Final = 5

Attributes = dict[str, JsonValue]


def printable(text: str) -> str:
    """The text itself.

    Raises:
        ValueError: it has a NUL, which PostgreSQL cannot store, or half a surrogate pair, which UTF-8 cannot encode.
    """
    try:
        fine = "\x00" not in text and (text.isascii() or text.encode() != b"")
    except UnicodeEncodeError:
        fine = False
    if not fine:
        raise ValueError("has a NUL or an unpaired surrogate; leave such characters out")
    return text


def encoded(attributes: Attributes) -> bytes:
    """The canonical bytes of attributes: what the size limit counts, and what tells whether they changed.

    Python's own equality would not do: 1, 1.0 and True are equal to it.
    """
    return to_json(_sorted(attributes), inf_nan_mode="constants")


def attributes_fault(attributes: Attributes) -> str | None:
    """The fault of whole attributes; None where there is none."""
    if _depth(attributes) > ATTRIBUTES_DEPTH:
        return f"is nested deeper than {ATTRIBUTES_DEPTH} levels; flatten it"
    size = len(encoded(attributes))
    if size > ATTRIBUTES_BYTES:
        return f"takes {size} bytes as JSON, {ATTRIBUTES_BYTES} at most; store less in it"
    return None


def _sorted(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def _depth(value: JsonValue) -> int:
    """Levels of objects and arrays; stops counting one beyond the limit, so that hostile nesting costs nothing."""
    level: list[JsonValue] = [value]
    for depth in range(ATTRIBUTES_DEPTH + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return depth
        level = [child for item in level for child in _children(item)]
    return ATTRIBUTES_DEPTH + 1


def _children(item: JsonValue) -> Iterator[JsonValue]:
    match item:
        case dict():
            yield from item.values()
        case list():
            yield from item
        case _:
            pass


def _only_json(attributes: Attributes) -> Attributes:
    """Refuse what Python's parser accepts and JSON cannot express, at any depth."""
    todo: list[JsonValue] = [attributes]
    while todo:
        value = todo.pop()
        match value:
            case str():
                printable(value)
            case float() if not math.isfinite(value):
                raise ValueError("has NaN or an infinite number; use null or a finite number")
            case dict():
                for name in value:
                    printable(name)
            case _:
                pass
        todo.extend(_children(value))
    return attributes


def _allowed(attributes: Attributes) -> Attributes:
    fault = attributes_fault(_only_json(attributes))
    if fault:
        raise ValueError(fault)
    return attributes


def _shallow(value: Any) -> Any:
    """Checked before pydantic walks into it: a body of 64 KiB can be nested 30,000 deep."""
    if isinstance(value, dict) and _depth(value) > ATTRIBUTES_DEPTH:
        raise ValueError(f"is nested deeper than {ATTRIBUTES_DEPTH} levels; flatten it")
    return value


def _email(text: str) -> str:
    """The address as email-validator normalises it.

    Raises:
        ValueError: it is none, or not a bare one.
    """
    address = _plain_address(text) or _any_address(text)
    if len(address) > EMAIL_CHARACTERS:
        raise ValueError(f"has {len(address)} characters, {EMAIL_CHARACTERS} at most; use a shorter address")
    return address


def _any_address(text: str) -> str:
    printable(text)
    if "<" in text or text != text.strip():
        raise ValueError("must be the bare address, such as ann@example.com, without a name or spaces around it")
    return validate_email(text)[1]


def _plain_address(text: str) -> str | None:
    """The address where it is of the usual form; None where the library must decide.

    The library takes 26 microseconds an address, most of them for the domain, and an import has many of one domain.
    """
    plain = _PLAIN.fullmatch(text)
    if not plain:
        return None
    local, domain = plain.groups()
    known = _normal_domain(domain)
    return f"{local}@{known}" if known and len(local) <= _LOCAL_CHARACTERS else None


@lru_cache(maxsize=_DOMAINS)
def _normal_domain(domain: str) -> str | None:
    try:
        return validate_email(f"a@{domain}")[1].rpartition("@")[2]
    except ValueError:
        return None  # the library says what is wrong with the whole address


def _username(text: str) -> str:
    least, most = USERNAME_CHARACTERS
    if text.isascii() and text.isalnum() and least <= len(text) <= most:
        return text  # most names: nothing to normalise
    name = normalize("NFC", printable(text))
    for form in (text, name):  # as it is sent, too: nothing longer or shorter than the document says is taken
        if not least <= len(form) <= most:
            raise ValueError(f"must have {least} to {most} characters; this has {len(form)}")
    if _INVISIBLE.search(name) or any(category(character)[0] in "CZ" for character in name):
        raise ValueError("has a space, a control or another invisible character; leave it out")
    if "@" in normalize("NFKC", name):
        raise ValueError("has an @, by which an e-mail address is told from a username; leave it out")
    if _crowded(name):
        raise ValueError(f"has more than {_MARKS} combining marks in a row; leave some out")
    return name


def _identifier(text: str) -> str:
    if not 1 <= len(printable(text)) <= IDENTIFIER_CHARACTERS:
        raise ValueError(f"must have 1 to {IDENTIFIER_CHARACTERS} characters; this has {len(text)}")
    return text


def _crowded(name: str) -> bool:
    """Whether more marks than _MARKS stand on one character; they would cover the lines around it.

    Those count that a letter of NFC has in it, but for spacing ones: the vowel signs of Kannada and Sinhala have three,
    and a nasal may follow.
    """
    composed = "".join("m" if category(character)[0] == "M" else " " for character in name)
    kinds = map(category, normalize("NFD", name))
    stacked = "".join("m" if kind in _STACKED else " " for kind in kinds if kind != _SPACING)
    return any("m" * (_MARKS + 1) in marks for marks in (composed, stacked))


def _password(least: int, most: int) -> AfterValidator:
    """Counted in NFC, as it is hashed, and as the policy counts it."""

    def check(secret: SecretStr) -> SecretStr:
        length = len(normalize("NFC", printable(secret.get_secret_value())))
        if not least <= length <= most:
            raise ValueError(f"must have {least} to {most} characters, whichever; this has {length}")
        return secret

    return AfterValidator(check)


def _password_schema(least: int, most: int) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "format": "password", "writeOnly": True, "minLength": least, "maxLength": most}
    )


def _at_most(characters: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(printable(text)) > characters:
            raise ValueError(f"has {len(text)} characters, {characters} at most; shorten it")
        return text

    return AfterValidator(check)


#: An address is checked by the function of pydantic's EmailStr, but without a display name.
Email = Annotated[
    str,
    AfterValidator(_email),
    WithJsonSchema({"type": "string", "format": "idn-email", "maxLength": EMAIL_CHARACTERS}),
    Field(
        description="Stored with the domain in lower case. Unique whatever the case, or the spelling of the domain.",
        examples=["ann@example.com"],
    ),
]
Username = Annotated[
    str,
    AfterValidator(_username),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": USERNAME_CHARACTERS[0],
            "maxLength": USERNAME_CHARACTERS[1],
            "format": "username",
            "pattern": rf"^[^\p{{C}}\p{{Z}}\p{{Default_Ignorable_Code_Point}}{_BLANK}{_AT_SIGNS}]+$",
        }
    ),
    Field(
        description="Stored as NFC, whose length counts as well; no spaces, control or invisible characters, no @,"
        f" at most {_MARKS} combining marks in a row. Unique without regard to case.",
        examples=["ann"],
    ),
]
Password = Annotated[
    SecretStr,
    _password(*PASSWORD_CHARACTERS),
    _password_schema(*PASSWORD_CHARACTERS),
    Field(
        description=f"{RULES} Hashed as NFC, never truncated, never shown again.",
        examples=["correct horse battery staple"],
    ),
]
#: Imported users may have passwords that are too short to be chosen here.
CurrentPassword = Annotated[
    SecretStr,
    _password(1, PASSWORD_CHARACTERS[1]),
    _password_schema(1, PASSWORD_CHARACTERS[1]),
    Field(examples=["correct horse battery staple"]),
]
Identifier = Annotated[
    str,
    AfterValidator(_identifier),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": IDENTIFIER_CHARACTERS}),
    Field(description="With an @ an e-mail address, else a username; whatever the case.", examples=["ann@example.com"]),
]
#: Any text: a browser keeps its cookie, and who is refused for that of it could never log in again.
DeviceTokenText = Annotated[
    str, Field(description="A device token as the device's last success gave it; one that is not valid is none.")
]
DisplayName = Annotated[
    str,
    _at_most(DISPLAY_NAME_CHARACTERS),
    WithJsonSchema({"type": "string", "maxLength": DISPLAY_NAME_CHARACTERS}),
    Field(description="How the user is shown; need not be unique.", examples=["Ann Example"]),
]
Reason = Annotated[
    str,
    _at_most(REASON_CHARACTERS),
    WithJsonSchema({"type": "string", "maxLength": REASON_CHARACTERS}),
    Field(description="Why; published with the event and shown in the timeline.", examples=["asked by the user"]),
]
WholeAttributes = Annotated[
    Attributes,
    BeforeValidator(_shallow),
    AfterValidator(_allowed),
    WithJsonSchema({"type": "object", "additionalProperties": True}),
    Field(
        description=f"Whatever else you know: at most {ATTRIBUTES_BYTES} bytes as JSON, {ATTRIBUTES_DEPTH} levels.",
        examples=[{"plan": "pro", "newsletter": True}],
    ),
]
AttributesPatch = Annotated[
    Attributes,
    BeforeValidator(_shallow),
    AfterValidator(_only_json),
    WithJsonSchema({"type": "object", "additionalProperties": True}),
    Field(
        description=(
            "Merged into the attributes (RFC 7396): null removes a name. The result has at most"
            f" {ATTRIBUTES_BYTES} bytes as JSON and {ATTRIBUTES_DEPTH} levels."
        ),
        examples=[{"plan": "free", "newsletter": None}],
    ),
]

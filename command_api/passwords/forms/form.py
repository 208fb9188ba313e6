"""The declaration of a form of hashes, and what all of them share: bounds, and salts and digests in base64.

Parameters are bounded, because a hash that takes minutes or gigabytes to check is an attack on whoever checks it. What
is bounded is the work, the product of what a form multiplies: at the bounds one check takes about a second on one core.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SALT_BYTES: Final = (8, 64)
#: Fewer bytes are no safe digest; more are the output of no hash function that is accepted.
DIGEST_BYTES: Final = (16, 64)

#: passlib writes `.` for `+`.
BASE64: Final = r"[A-Za-z0-9+/.]+={0,2}"
NO_BASE64: Final = "has a salt or a digest that is no base64"
#: The pattern of a salt that is a text: anything that is seen, but for the dollar that ends it.
TEXT: Final = r"[!-#%-~]+"


class UnacceptableHashError(ValueError):
    """The text is no hash of a form that is accepted, or one whose check would cost too much; says which."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a hash.

    `examine` raises UnacceptableHashError for what matches the pattern and cannot, or should not, be checked; `matches`
    tells whether a text is the password.
    """

    pattern: re.Pattern[str]
    examine: Callable[[re.Match[str]], None]
    matches: Callable[[str, re.Match[str]], bool]


def pattern(text: str) -> re.Pattern[str]:
    """Compiled, with digits that are ASCII alone."""
    return re.compile(text, re.ASCII)


def within(name: str, value: int, least: int, most: int) -> None:
    """Refuse a value that is out of bounds."""
    if not least <= value <= most:
        raise UnacceptableHashError(f"has {name} {value}; {least} to {most} is accepted")


def examine_salt(size: int) -> None:
    """Refuse a salt of too few or too many bytes."""
    within("bytes of salt", size, *SALT_BYTES)


def examine_digest(size: int) -> None:
    """Refuse a digest of too few or too many bytes."""
    if size > DIGEST_BYTES[1]:
        raise UnacceptableHashError(f"has a digest that is too long: {size} bytes, {DIGEST_BYTES[1]} at most")
    within("bytes of digest", size, *DIGEST_BYTES)


def examine_bytes(match: re.Match[str]) -> None:
    """Refuse a salt or a digest, both in base64, that is too short or too long."""
    examine_salt(size_of(match["salt"]))
    examine_digest(size_of(match["digest"]))


def size_of(text: str) -> int:
    """The number of bytes that the base64 stands for; the pattern has checked its letters."""
    letters = len(text.rstrip("="))
    if letters % 4 == 1:
        raise UnacceptableHashError(NO_BASE64)
    return letters * 3 // 4


def decode(text: str) -> bytes:
    """The bytes of base64, padded or not, with `.` or with `+`."""
    bare = text.rstrip("=").replace(".", "+")
    try:
        return b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error as error:
        raise UnacceptableHashError(NO_BASE64) from error

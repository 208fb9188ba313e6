"""bcrypt in its modular crypt form ($2a$, $2b$, $2y$), and with the names that Django puts before it."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

import bcrypt

from command_api.passwords.forms.form import NO_BASE64, Form, UnacceptableHashError, pattern, within

COST: Final = (4, 14)
#: bcrypt reads no more of a password, whoever made the hash.
_READ_BYTES: Final = 72
_DIGEST_LETTERS: Final = 31
#: The letters that a salt may end in. The library refuses one whose bits beyond the last byte are not 0.
_LAST: Final = ".Oeu"
#: Django's BCryptSHA256PasswordHasher gives bcrypt the hexadecimal SHA-256 of a password.
_FORM: Final = pattern(
    r"(?:bcrypt(?P<hashed>_sha256)?\$)?"
    r"(?P<bare>\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{21}(?P<last>[./A-Za-z0-9])(?P<digest>[./A-Za-z0-9]{31,}))"
)


def _examine(match: re.Match[str]) -> None:
    within("cost", int(match["cost"]), *COST)
    if match["last"] not in _LAST:
        raise UnacceptableHashError(NO_BASE64)
    if (letters := len(match["digest"])) > _DIGEST_LETTERS:
        raise UnacceptableHashError(f"has a digest that is too long: {letters} letters, bcrypt has {_DIGEST_LETTERS}")


def _matches(password: str, match: re.Match[str]) -> bool:
    secret = password.encode()
    if match["hashed"]:
        secret = sha256(secret).hexdigest().encode()
    return bool(bcrypt.checkpw(secret[:_READ_BYTES], match["bare"].encode()))


FORMS: Final = (Form(_FORM, _examine, _matches),)

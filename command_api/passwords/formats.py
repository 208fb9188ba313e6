"""Password hashes in the forms we accept: Argon2 (ours), and bcrypt, PBKDF2 and scrypt of imported users.

docs/reference/password-hashes.md lists the forms; each family has a module in command_api/passwords/forms.
"""

from __future__ import annotations

from typing import Final

from argon2 import PasswordHasher

from command_api.passwords.forms import argon2, bcrypt, pbkdf2, scrypt
from command_api.passwords.forms.form import UnacceptableHashError

#: The longest that is accepted is Firebase's, with less than 400.
HASH_CHARACTERS: Final = 512

#: The likely ones first.
_FORMS: Final = (*argon2.FORMS, *bcrypt.FORMS, *pbkdf2.FORMS, *scrypt.FORMS)


def check(password_hash: str) -> str:
    """The hash itself, where it is of an accepted form and its check is not too expensive.

    Raises:
        UnacceptableHashError: it is not.
    """
    for form in _FORMS:
        if match := form.pattern.fullmatch(password_hash):
            # Bounds salt and digest, and so the whole: of a form that is accepted it says which of them is too long.
            form.examine(match)
            return password_hash
    if len(password_hash) > HASH_CHARACTERS:
        raise UnacceptableHashError(f"has {len(password_hash)} characters; a hash has {HASH_CHARACTERS} at most")
    raise UnacceptableHashError(
        "is no Argon2, bcrypt, PBKDF2 or scrypt hash in a form that is accepted, such as $argon2id$v=19$m=...;"
        " docs/reference/password-hashes.md lists the forms"
    )


def imported(password_hash: str) -> str:
    """The same hash, written as we write none: so `needs_rehash` holds of it, whatever its parameters.

    Else an Argon2id hash with today's parameters would be taken for one of ours, which are of NFC alone.
    """
    return f"argon2{password_hash}" if argon2.USUAL.fullmatch(password_hash) else password_hash


def verify(password: str, password_hash: str) -> bool:
    """Whether this is the password of an accepted hash, as it is, in no other Unicode form.

    The hash's own parameters say how long that takes, so call it in a thread.
    """
    for form in _FORMS:
        if match := form.pattern.fullmatch(password_hash):
            return form.matches(password, match)
    raise UnacceptableHashError("is no hash of a form that is accepted")


def needs_rehash(password_hash: str, hasher: PasswordHasher) -> bool:
    """Whether `hasher` would write it otherwise: it has another form, or other parameters."""
    return not argon2.USUAL.fullmatch(password_hash) or bool(hasher.check_needs_rehash(password_hash))

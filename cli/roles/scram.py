"""Computes what PostgreSQL keeps of a password, so that the password never reaches a server or its log."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode
from typing import Final

#: PostgreSQL's own number, `scram_iterations`.
ITERATIONS: Final = 4096
_SALT_BYTES: Final = 16


class PasswordError(Exception):
    """The password has characters that servers and clients may read differently."""


def verifier(password: str) -> str:
    """The SCRAM-SHA-256 verifier of a password, with a salt of its own each time.

    Source: RFC 5803, and PostgreSQL's documentation of pg_authid.

    Raises:
        PasswordError: it is empty, or not of printable ASCII.
    """
    if not (password and password.isascii() and password.isprintable()):
        raise PasswordError(
            "must be printable ASCII, such as python3 -c 'import secrets; print(secrets.token_urlsafe(32))' prints"
        )
    salt = secrets.token_bytes(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(value: bytes) -> str:
    return b64encode(value).decode("ascii")

"""Sealing what a session or a link holds: only who has its id and one of CONSOLE_SECRET can open it.

The key is made of both, so neither a copy of the database nor the secret alone gives a token, and what was sealed for
one id opens under no other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Nobody guesses 256 bits.
_ID_BYTES: Final = 32
_KEY_BYTES: Final = 32


class BrokenSealError(Exception):
    """It was sealed for another id or kind, or with a secret that is gone."""


def new_id() -> str:
    """An id for a cookie or a link."""
    return secrets.token_urlsafe(_ID_BYTES)


def digest(identifier: str) -> bytes:
    """The digest by which the row of an id is found."""
    return hashlib.sha256(identifier.encode()).digest()


def csrf_token(identifier: str) -> str:
    """The token that the forms of a session send along; it does not give the session's id away."""
    return hmac.new(identifier.encode(), b"csrf", hashlib.sha256).hexdigest()


def proof(identifier: str, text: str) -> str:
    """The proof that a session has said this; nobody without its id can make it."""
    return hmac.new(identifier.encode(), f"proof {text}".encode(), hashlib.sha256).hexdigest()


def seal(seals: Sequence[str], identifier: str, content: bytes, *, kind: str = "") -> bytes:
    """Encrypt with the first of the secrets; what is of one kind opens as no other."""
    return _cipher(seals, identifier, kind).encrypt(content)


def unseal(seals: Sequence[str], identifier: str, sealed: bytes, *, kind: str = "") -> bytes:
    """The content that was sealed with any of the secrets.

    Raises:
        BrokenSealError: it was not.
    """
    try:
        return _cipher(seals, identifier, kind).decrypt(sealed)
    except InvalidToken as error:
        raise BrokenSealError("it was sealed for another id or kind, or with a secret that is gone") from error


def _cipher(seals: Sequence[str], identifier: str, kind: str) -> MultiFernet:
    return MultiFernet([Fernet(_key(secret, f"{kind} {identifier}" if kind else identifier)) for secret in seals])


def _key(secret: str, name: str) -> bytes:
    made = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"muster console " + name.encode()).derive(secret.encode())
    return base64.urlsafe_b64encode(made)

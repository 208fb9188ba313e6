"""Cursors: where the next page begins, sealed so that a client can neither read nor make one.

They hold names and e-mail addresses, and they travel through URLs and logs; so they are encrypted and authenticated
(AES-256-GCM) and bound to the address they were made for. Keys rotate by id: the first of the ring seals, all open.

GCM breaks when a nonce comes twice under one key, and random nonces of 96 bits may only be used 2^32 times (NIST
SP 800-38D, section 8.3): ten days at 5,000 pages a second. So every process seals with a key of its own, derived from
the ring's key and a random salt, and counts its nonces.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: The form's number, so that it can change without an old cursor being misread.
_FORM: Final = 1
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_COUNTER_BYTES: Final = 6
_KEY_BYTES: Final = 32
_HEADER_BYTES: Final = 2
#: A cursor of ours with 200 ids in it is under 8,000 characters.
MAX_LENGTH: Final = 16_384
#: How many other processes' derived keys are kept; deriving one costs some 20 microseconds.
_DERIVED_KEYS: Final = 256


class UnreadableCursorError(ValueError):
    """The text is no cursor that this ring opens for this address."""


class CursorSeal:
    """Seals and opens positions; safe to share between requests of one process, not between processes."""

    def __init__(self, ring: Mapping[str, bytes]) -> None:
        """Take the keys by id, the one that seals first."""
        self._ring = {identifier.encode("ascii"): key for identifier, key in ring.items()}
        salt = os.urandom(_SALT_BYTES)
        first = next(iter(self._ring))
        self._header = bytes([_FORM, len(first)]) + first + salt
        self._own = _derive(self._ring[first], salt)
        self._counter = itertools.count()
        self._derived = lru_cache(maxsize=_DERIVED_KEYS)(_derive)

    def seal(self, content: bytes, *, address: bytes) -> str:
        """Encrypt `content` for `address`; the text is URL-safe."""
        count = next(self._counter).to_bytes(_COUNTER_BYTES, "big")
        sealed = self._own.encrypt(_nonce(count), content, address)
        return _encode(self._header + count + sealed)

    def open(self, text: str, *, address: bytes) -> bytes:
        """Decrypt a cursor that was sealed for `address`.

        Raises:
            UnreadableCursorError: it is not one.
        """
        raw = _decode(text)
        identifier, rest = raw[_HEADER_BYTES : _HEADER_BYTES + raw[1]], raw[_HEADER_BYTES + raw[1] :]
        key = self._ring.get(identifier)
        if key is None:
            raise UnreadableCursorError("is sealed with a key that this service does not have")
        salt, rest = rest[:_SALT_BYTES], rest[_SALT_BYTES:]
        count, sealed = rest[:_COUNTER_BYTES], rest[_COUNTER_BYTES:]
        if len(salt) < _SALT_BYTES or len(count) < _COUNTER_BYTES:
            raise UnreadableCursorError("is cut short")
        try:
            return self._derived(key, salt).decrypt(_nonce(count), sealed, address)
        except (InvalidTag, ValueError) as error:
            raise UnreadableCursorError("was altered, or was made for another address") from error


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    if len(text) > MAX_LENGTH:
        raise UnreadableCursorError("is not a cursor")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableCursorError("is not a cursor") from error
    # The last character has bits that decoding ignores: only the one text that we wrote is ours.
    if len(raw) <= _HEADER_BYTES or raw[0] != _FORM or _encode(raw) != text:
        raise UnreadableCursorError("is not a cursor")
    return raw


def _nonce(count: bytes) -> bytes:
    return count.rjust(_NONCE_BYTES, b"\0")


def _derive(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=_KEY_BYTES, salt=salt, info=b"muster cursor").derive(key))

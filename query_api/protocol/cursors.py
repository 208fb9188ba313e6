"""Cursors: where the next page begins, sealed so that a client can neither read nor make one.

Cursors hold names and e-mail addresses, and travel through URLs and logs. So they are encrypted and authenticated
(AES-256-GCM), and bound to the list that they were made for. Keys rotate by id: the first of the ring seals, all open.

GCM breaks when a nonce is used twice under one key, and random nonces of 96 bits may only be used 2^32 times (NIST
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

from query_api.protocol.problems import invalid_cursor

#: The number of the cursors' form: it changes with the form, so that no old cursor is misread.
_FORM: Final = 1
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_COUNTER_BYTES: Final = 6
_KEY_BYTES: Final = 32
_HEADER_BYTES: Final = 2
#: So many derived keys are kept, one a process of late. Deriving one took 19 microseconds of a page, and 4 in a loop.
_DERIVED_KEYS: Final = 256
#: A cursor of ours with 200 ids in it is under 8,000 characters.
MAX_LENGTH: Final = 16_384


class CursorSeal:
    """Seals and opens cursors; safe to share between requests of one process, not between processes."""

    def __init__(self, ring: Mapping[str, bytes]) -> None:
        """The keys by id; the first one seals."""
        self._ring = {identifier.encode("ascii"): key for identifier, key in ring.items()}
        salt = os.urandom(_SALT_BYTES)
        first = next(iter(self._ring))
        self._header = bytes([_FORM, len(first)]) + first + salt
        self._own = _derive(self._ring[first], salt)
        self._counter = itertools.count()
        self._derived = lru_cache(maxsize=_DERIVED_KEYS)(_derive)

    def seal(self, content: bytes, *, bound_to: bytes) -> str:
        """Encrypt `content` for the list that `bound_to` names; the text is URL-safe."""
        count = next(self._counter).to_bytes(_COUNTER_BYTES, "big")
        sealed = self._own.encrypt(_nonce(count), content, bound_to)
        return _encode(self._header + count + sealed)

    def open(self, text: str, *, bound_to: bytes) -> bytes:
        """Decrypt a cursor that was sealed for the same list.

        Raises:
            Problem: 400 `invalid-cursor`.
        """
        if not text:
            raise invalid_cursor("is empty; leave it out for the first page")
        raw = _decode(text)
        identifier, rest = raw[_HEADER_BYTES : _HEADER_BYTES + raw[1]], raw[_HEADER_BYTES + raw[1] :]
        key = self._ring.get(identifier)
        if key is None:
            raise invalid_cursor("is sealed with a key that this service does not have")
        salt, rest = rest[:_SALT_BYTES], rest[_SALT_BYTES:]
        count, sealed = rest[:_COUNTER_BYTES], rest[_COUNTER_BYTES:]
        if len(salt) < _SALT_BYTES or len(count) < _COUNTER_BYTES:
            raise invalid_cursor("is cut short")
        try:
            return self._derived(key, salt).decrypt(_nonce(count), sealed, bound_to)
        except (InvalidTag, ValueError) as error:
            raise invalid_cursor("was altered, or was made for another address") from error


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    if len(text) > MAX_LENGTH:
        raise invalid_cursor("is not a cursor")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_cursor("is not a cursor") from error
    # The last character has bits that decoding ignores: only the very text that we wrote is taken.
    if len(raw) <= _HEADER_BYTES or raw[0] != _FORM or _encode(raw) != text:
        raise invalid_cursor("is not a cursor")
    return raw


def _nonce(count: bytes) -> bytes:
    return count.rjust(_NONCE_BYTES, b"\0")


def _derive(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=_KEY_BYTES, salt=salt, info=b"muster cursor").derive(key))

"""Device tokens: a device that has logged in once has a counter of failed attempts of its own.

A token says whose it is, until when, and which event had set the password, under an HMAC; there is no list of them. So
it ends with the next change of the password, and nobody can make one. It opens nothing by itself. As OWASP's "Slow Down
Online Guessing Attacks with Device Cookies".
"""

from __future__ import annotations

import binascii
import hmac
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from command_api.credentials.keys import CredentialKeys

#: The header of an answer that brings a new one.
DEVICE_TOKEN_HEADER: Final = "Device-Token"  # noqa: S105 - a header's name
#: The first byte: the form can change, and no old token is misread.
_FORM: Final = 1
#: Form, account, nonce, seconds since 1970 at which it expires, the event that set the password.
_CONTENT: Final = struct.Struct(">B16s16sQ16s")
_NONCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class DeviceToken:
    """The content of a token of ours."""

    user_id: UUID
    nonce: bytes
    password_set_by: UUID


class DeviceTokens:
    """Makes tokens and reads them."""

    def __init__(self, keys: CredentialKeys, *, lifetime: timedelta, clock: Callable[[], datetime]) -> None:
        """Tokens are valid for `lifetime`."""
        self._keys = keys.device_tokens
        self._lifetime = lifetime
        self._clock = clock

    def make(self, user_id: UUID, password_set_by: UUID) -> str:
        """A new token, as URL-safe text; `password_set_by` is the event that set the user's present password."""
        expires = int((self._clock() + self._lifetime).timestamp())
        nonce = secrets.token_bytes(_NONCE_BYTES)
        content = _CONTENT.pack(_FORM, user_id.bytes, nonce, expires, password_set_by.bytes)
        return urlsafe_b64encode(content + _sign(self._keys[0], content)).rstrip(b"=").decode()

    def read(self, text: str | None) -> DeviceToken | None:
        """The content of the token, where it is one of ours that has not expired.

        Whether it is valid its account decides: only there is it known which event set the password.
        """
        if text is None:
            return None
        raw = _decode(text)
        content, signature = raw[: _CONTENT.size], raw[_CONTENT.size :]
        if not any(hmac.compare_digest(_sign(key, content), signature) for key in self._keys):
            return None
        form, user_id, nonce, expires, set_by = _CONTENT.unpack(content)
        if form != _FORM or self._clock().timestamp() >= expires:
            return None
        return DeviceToken(UUID(bytes=user_id), nonce, UUID(bytes=set_by))


def _sign(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, sha256)


def _decode(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError):
        return b""  # nobody's signature

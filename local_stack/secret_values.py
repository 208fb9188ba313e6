"""Secrets of an installation, made at random: passwords, keys of HMACs, keys of cursors."""

import base64
import secrets
from typing import Final

#: AES-256 for cursors, and as much for everything else.
SECRET_BYTES: Final = 32


def make_secret(name: str) -> str:
    """Return a new value of the setting: letters, digits, `-` and `_`, save for CURSOR_KEYS, which names its key."""
    if name == "CURSOR_KEYS":
        return f"k1:{base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode('ascii')}"
    return secrets.token_urlsafe(SECRET_BYTES)

"""Secrets of an installation, made at random: passwords, keys of HMACs, keys of cursors, the key of receipts."""

import base64
import secrets
from typing import Final

#: AES-256 for cursors, and as much for everything else.
SECRET_BYTES: Final = 32


def make_secret(name: str) -> str:
    """Return a new value of the setting: letters, digits, `-` and `_`.

    CURSOR_KEYS also names its key. RECEIPTS_KEY is PEM in one line, for files of variables.
    """
    if name == "CURSOR_KEYS":
        return f"k1:{base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode('ascii')}"
    if name == "RECEIPTS_KEY":
        return _signing_key()
    return secrets.token_urlsafe(SECRET_BYTES)


def _signing_key() -> str:
    """Return a private Ed25519 key as openssl genpkey makes it, without line ends."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - a stack's first start alone pays for it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above

    key = Ed25519PrivateKey.generate()
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode("ascii").replace("\n", "")

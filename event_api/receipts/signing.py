"""The keys of receipts: the first signs, and all are published, so that older receipts verify."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import Any, Final

import rfc8785
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key
from jwt import PyJWS

from chassis.access.keys import public_jwk

Json = dict[str, Any]

#: The type says what a signature is on, for whoever finds it alone (RFC 8725, section 3.11).
TYPE: Final = "erasure-receipt+jws"
#: RFC 7468; also where a variable of the environment holds it in one line.
_KEY: Final = re.compile(r"-----BEGIN (PRIVATE|PUBLIC) KEY-----([A-Za-z0-9+/=\s]+)-----END \1 KEY-----", re.ASCII)


class ReceiptKeys:
    """Signs receipts, and says which keys verify them."""

    def __init__(self, text: str) -> None:
        """Read keys in PEM: the private one that signs, then any that have signed, of which the public half will do.

        Raises:
            ValueError: the first is no private Ed25519 key, another is no Ed25519 key, or there is anything else.
        """
        keys = [_read(kind, body) for kind, body in _KEY.findall(text)]
        if not keys or not isinstance(keys[0], Ed25519PrivateKey):
            raise ValueError("must begin with a private key in PEM, as openssl genpkey -algorithm ed25519 makes it")
        if _KEY.sub("", text).strip():
            raise ValueError("must have nothing but keys in PEM, PRIVATE KEY and PUBLIC KEY: leave out all else")
        self._key = keys[0]
        listed = [public_jwk(key if isinstance(key, Ed25519PublicKey) else key.public_key()) for key in keys]
        #: The JSON Web Key Set.
        self.key_set: Final[Json] = {"keys": listed}

    def signed(self, statement: Json, at: datetime) -> Json:
        """The statement with a JWS of its canonical JSON (RFC 8785) beside it, made at this time."""
        headers = {"typ": TYPE, "kid": self.key_set["keys"][0]["kid"], "iat": int(at.timestamp())}
        jws = PyJWS().encode(rfc8785.dumps(statement), self._key, "EdDSA", headers)
        return {**statement, "jws": jws}


def _read(kind: str, body: str) -> Ed25519PrivateKey | Ed25519PublicKey:
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
        key = load_der_private_key(der, password=None) if kind == "PRIVATE" else load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise ValueError(f"has a {kind.lower()} key that is no Ed25519 key")  # noqa: TRY004 - pydantic explains these
    return key

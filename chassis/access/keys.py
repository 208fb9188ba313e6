"""Public keys of a JSON Web Key Set (RFC 7517): which are usable, which fits a token, and ours."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

log = structlog.get_logger("access.keys")

#: Algorithms that there are here, each with its type of key and, where that has curves, the one it is for. Only
#: asymmetric ones: a key that verifies must not be one that signs.
ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    "EdDSA": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
}
#: The public members by type of key: whatever else a set holds, private members above all, is not read.
_PUBLIC: Final = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("n", "e")}
_READERS: Final[Mapping[str, Any]] = {"OKP": OKPAlgorithm, "EC": ECAlgorithm, "RSA": RSAAlgorithm}
#: NIST SP 800-131A: shorter ones are no longer safe.
_LEAST_RSA_BITS: Final = 2048
#: An issuer that rotates has a handful.
MOST_KEYS: Final = 100


class UnusableKeySetError(ValueError):
    """The issuer's answer has no usable key."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key. Two are equal where the same text said them."""

    identity: tuple[str, ...]
    key_id: str | None
    kind: str
    curve: str | None
    #: The one algorithm that the issuer keeps it for, where it says one.
    algorithm: str | None
    public: Any

    def fits(self, algorithm: str, key_id: str | None) -> bool:
        """Tell whether this key may have signed a token with this algorithm and key id."""
        return (
            (self.kind, self.curve) == ALGORITHMS[algorithm]
            and self.algorithm in {None, algorithm}
            and (key_id is None or key_id == self.key_id)
        )

    def __eq__(self, other: object) -> bool:
        """By what the set said."""
        return isinstance(other, Key) and self.identity == other.identity

    def __hash__(self) -> int:
        """As `__eq__`."""
        return hash(self.identity)


def read_key_set(document: bytes) -> frozenset[Key]:
    """Return the usable keys of a set; others are passed over.

    Raises:
        UnusableKeySetError: it is no key set, or none of its keys can be used.
    """
    try:
        listed = json.loads(document)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnusableKeySetError('the answer is no JSON Web Key Set (an object with "keys")') from error
    if not isinstance(listed, list):
        raise UnusableKeySetError('"keys" is no list')
    keys = frozenset(filter(None, map(_read_key, listed[:MOST_KEYS])))
    if not keys:
        raise UnusableKeySetError(f"none of the {len(listed)} keys can be used")
    return keys


def public_jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """Return a key of ours as a key set lists it; its id is its thumbprint (RFC 7638)."""
    said = OKPAlgorithm.to_jwk(key, as_dict=True)
    # RFC 8037: the required members, in this order.
    named = json.dumps({name: said[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))
    key_id = urlsafe_b64encode(sha256(named.encode()).digest()).rstrip(b"=").decode("ascii")
    return {"kty": "OKP", "crv": said["crv"], "x": said["x"], "kid": key_id, "use": "sig", "alg": "EdDSA"}


def _read_key(listed: Any) -> Key | None:
    """The key, or None where it cannot be read or used; the others are good all the same."""
    if not isinstance(listed, dict) or not _verifies(listed):
        return None
    kind, key_id, algorithm = (listed.get(name) for name in ("kty", "kid", "alg"))
    if not isinstance(kind, str) or kind not in _PUBLIC:
        return None
    if not all(text is None or isinstance(text, str) for text in (key_id, algorithm)):
        return None
    said = {"kty": kind} | {name: listed.get(name) for name in _PUBLIC[kind]}
    try:
        public = _READERS[kind].from_jwk(said)
    except Exception as error:  # noqa: BLE001 - PyJWT and cryptography raise a dozen kinds, none of ours to list
        log.info("access.key_passed_over", reason=f"{type(error).__name__}: {error}")
        return None
    if kind == "RSA" and public.key_size < _LEAST_RSA_BITS:
        return None
    identity = tuple(map(str, (key_id, algorithm, *said.values())))
    return Key(identity, key_id, kind, said.get("crv"), algorithm, public)


def _verifies(listed: dict[str, Any]) -> bool:
    """Tell whether the issuer means the key for signatures (RFC 7517, sections 4.2 and 4.3)."""
    operations = listed.get("key_ops", ["verify"])
    return listed.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations

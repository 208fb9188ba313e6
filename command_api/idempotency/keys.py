"""The Idempotency-Key of a request, as what is stored of it: HMACs of the key and of the request.

A client may put personal data into its key, and a plain hash of a request would let passwords be guessed from the
table. So neither is stored as it came.

Source: draft-ietf-httpapi-idempotency-key-header-07, The Idempotency-Key HTTP Header Field.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Final

from chassis.access.caller import Caller
from chassis.strict_json import read_json

KEY_CHARACTERS: Final = 255
#: The pattern of the header: so many characters, bare or between quotation marks, and not only blanks and such marks.
#: The OpenAPI document shows it.
KEY_PATTERN: Final = rf'^(?=.*[^\s"])(".{{0,{KEY_CHARACTERS}}}"|.{{1,{KEY_CHARACTERS}}})$'


class InvalidKeyError(ValueError):
    """The header cannot be a key."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key within its scope, and the request it came with, both as HMACs."""

    digest: bytes
    fingerprint: bytes


class Keys:
    """Makes keys from headers, with a secret that is in no table."""

    def __init__(self, secret: str) -> None:
        """Derive one HMAC key for digests and another for fingerprints, so that one never passes for the other."""
        self._digest_key = hmac.digest(secret.encode(), b"muster idempotency digest", "sha256")
        self._fingerprint_key = hmac.digest(secret.encode(), b"muster idempotency fingerprint", "sha256")

    def make(  # noqa: PLR0913 - one keyword for each part of a request
        self, header: str, *, caller: Caller | None, method: str, path: str, body: bytes, if_match: str | None
    ) -> IdempotencyKey:
        """The key of one request; who sent it (where that is known), method and path are its scope.

        Raises:
            InvalidKeyError: the header is empty or too long.
        """
        sent_by = () if caller is None else (caller.issuer, caller.subject)
        scope = _joined(*(part.encode() for part in (*sent_by, method, path, read_key(header))))
        request = _joined(canonical_json(body), b"" if if_match is None else b"=" + if_match.encode())
        return IdempotencyKey(
            digest=hmac.digest(self._digest_key, scope, "sha256"),
            fingerprint=hmac.digest(self._fingerprint_key, request, "sha256"),
        )


def read_key(header: str) -> str:
    """The key in the header; quoted (as the draft has it) or bare is the same key.

    Raises:
        InvalidKeyError: it is empty or too long.
    """
    key = header.strip()
    is_quoted = len(key) >= 2 and key[0] == key[-1] == '"'
    if is_quoted:
        key = key[1:-1]
    if len(key) > KEY_CHARACTERS:
        raise InvalidKeyError(f"has {len(key)} characters, {KEY_CHARACTERS} at most; a UUID is enough")
    if is_quoted:
        key = key.replace('\\"', '"').replace("\\\\", "\\")
    if not key.strip('" '):
        raise InvalidKeyError("is empty; leave it out, or send something unique such as a UUID")
    return key


def canonical_json(body: bytes) -> bytes:
    """The body without what JSON does not distinguish: spaces, the order of names, escapes."""
    try:
        return json.dumps(read_json(body.decode("utf-8-sig")), sort_keys=True, separators=(",", ":")).encode()
    except ValueError:
        return body  # routes refuse it, except an erasure's, which takes no body and must not fail on one


def _joined(*parts: bytes) -> bytes:
    """The parts behind their lengths, so that no two lists of parts are the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)

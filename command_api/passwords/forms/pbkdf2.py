"""PBKDF2 (RFC 8018) as the PHC form and passlib have it, and as Django has it.

Only the first block of a digest is looked at: 20 bytes or more, which nobody guesses. Each further block would take all
iterations anew (RFC 8018, section 5.2), and Keycloak's digests have up to four.
"""

from __future__ import annotations

import re
from hashlib import pbkdf2_hmac
from hmac import compare_digest
from typing import Final

from command_api.passwords.forms.form import (
    BASE64,
    TEXT,
    Form,
    decode,
    examine_bytes,
    examine_digest,
    examine_salt,
    pattern,
    size_of,
    within,
)

ITERATIONS: Final = 2_000_000
_BLOCK_BYTES: Final = {"sha1": 20, "sha256": 32, "sha512": 64}

#: passlib leaves out `i=`, and the name of SHA-1.
_PHC: Final = pattern(
    rf"\$pbkdf2(?:-(?P<function>sha1|sha256|sha512))?\$(?:i=)?(?P<i>\d{{1,8}})(?:,l=\d{{1,3}})?"
    rf"\$(?P<salt>{BASE64})\$(?P<digest>{BASE64})"
)
_DJANGO: Final = pattern(
    rf"pbkdf2_(?P<function>sha1|sha256|sha512)\$(?P<i>\d{{1,8}})\$(?P<salt>{TEXT})\$(?P<digest>{BASE64})"
)


def _examine_phc(match: re.Match[str]) -> None:
    _examine_iterations(match)
    examine_bytes(match)


def _examine_django(match: re.Match[str]) -> None:
    _examine_iterations(match)
    examine_salt(len(match["salt"]))
    examine_digest(size_of(match["digest"]))


def _examine_iterations(match: re.Match[str]) -> None:
    within("iterations", int(match["i"]), 1, ITERATIONS)


def _matches_phc(password: str, match: re.Match[str]) -> bool:
    return _matches(password, match, decode(match["salt"]))


def _matches_django(password: str, match: re.Match[str]) -> bool:
    return _matches(password, match, match["salt"].encode())


def _matches(password: str, match: re.Match[str], salt: bytes) -> bool:
    function = match["function"] or "sha1"
    expected = decode(match["digest"])[: _BLOCK_BYTES[function]]
    made = pbkdf2_hmac(function, password.encode(), salt, int(match["i"]), len(expected))
    return compare_digest(made, expected)


FORMS: Final = (Form(_PHC, _examine_phc, _matches_phc), Form(_DJANGO, _examine_django, _matches_django))

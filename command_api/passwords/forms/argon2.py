"""Argon2 (RFC 9106) in PHC form (github.com/P-H-C/phc-string-format): ours, and others'."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError, VerifyMismatchError

from command_api.passwords.forms.form import (
    NO_BASE64,
    Form,
    UnacceptableHashError,
    examine_bytes,
    pattern,
    within,
)

MEMORY_KIB: Final = 256 * 1024
#: KiB of memory times passes over it. The lanes share the memory, so their number is no work.
WORK: Final = 2 * 1024 * 1024
PARALLELISM: Final = 32

#: The library takes numbers without leading zeros alone.
_COST: Final = r"m=(?P<m>[1-9]\d{0,8}),t=(?P<t>[1-9]\d{0,8}),p=(?P<p>[1-9]\d{0,8})"
#: Nearly every hash has 16 bytes of salt and 32 of digest; of these the pattern alone checks the lengths.
USUAL: Final = pattern(rf"\$argon2id\$v=19\${_COST}\$[A-Za-z0-9+/]{{21}}[AQgw]\$[A-Za-z0-9+/]{{42}}[AEIMQUYcgkosw048]")
#: Django puts a name before it; without a version it is of version 16; Keycloak's salts and digests are padded.
_ANY: Final = pattern(
    rf"(?:argon2)?(?P<bare>\$argon2(?:id|i|d)\$(?:v=(?:16|19)\$)?{_COST}"
    r"\$(?P<salt>[A-Za-z0-9+/]+)={0,2}\$(?P<digest>[A-Za-z0-9+/]+))={0,2}"
)
#: The letters that base64 may end in, by their number modulo 4: the library refuses one whose bits beyond the last byte
#: are not 0.
_LAST: Final = {0: None, 2: "AQgw", 3: "AEIMQUYcgkosw048"}


def _examine_usual(match: re.Match[str]) -> None:
    _examine_cost(*match.groups())


def _examine(match: re.Match[str]) -> None:
    _examine_cost(match["m"], match["t"], match["p"])
    examine_bytes(match)
    for text in (match["salt"], match["digest"]):
        allowed = _LAST[len(text) % 4]
        if allowed and text[-1] not in allowed:
            raise UnacceptableHashError(NO_BASE64)


# The hashes of an import share a handful of costs. Errors are not kept.
@lru_cache(maxsize=64)
def _examine_cost(memory: str, time: str, parallelism: str) -> None:
    within("parallelism", int(parallelism), 1, PARALLELISM)
    within("memory in KiB", int(memory), 8 * int(parallelism), MEMORY_KIB)
    within("memory in KiB times passes", int(memory) * int(time), 1, WORK)


def _matches_usual(password: str, match: re.Match[str]) -> bool:
    return _verify(password, match[0])


def _matches(password: str, match: re.Match[str]) -> bool:
    return _verify(password, match["bare"].replace("=$", "$").replace("=$", "$"))


def _verify(password: str, password_hash: str) -> bool:
    try:
        return PasswordHasher().verify(password_hash, password)
    except VerifyMismatchError:
        return False
    except VerificationError as error:
        raise UnacceptableHashError("cannot be checked") from error


FORMS: Final = (Form(USUAL, _examine_usual, _matches_usual), Form(_ANY, _examine, _matches))

"""Password hashes in the forms we accept: Argon2 (ours), and bcrypt, PBKDF2 and scrypt of imported users.

Sources: the PHC string format (github.com/P-H-C/phc-string-format), and bcrypt's modular crypt format ($2a$, $2b$,
$2y$). What passlib writes is read too: PBKDF2's rounds without `i=`, and base64 with `.` for `+`.

Parameters are bounded, because a hash that takes minutes or gigabytes to check is an attack on whoever checks it. What
is bounded is the work, the product of what a form multiplies: at the bounds one check takes about a second on one core.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError, VerifyMismatchError

ARGON2_MEMORY_KIB: Final = 256 * 1024
#: KiB of memory times passes over it. The lanes share the memory, so their number is no work.
ARGON2_WORK: Final = 2 * 1024 * 1024
ARGON2_PARALLELISM: Final = 32
BCRYPT_COST: Final = (4, 14)
#: bcrypt reads no more of a password, whoever made the hash.
BCRYPT_BYTES: Final = 72
#: Iterations times the blocks of the digest, each of which takes all iterations (RFC 8018, section 5.2).
PBKDF2_WORK: Final = 2_000_000
PBKDF2_BLOCK_BYTES: Final = {"sha1": 20, "sha256": 32, "sha512": 64}
#: N r p (RFC 7914). One check takes 128 N r bytes: 256 MiB at this bound.
SCRYPT_WORK: Final = 2 * 1024 * 1024
SCRYPT_PARALLELISM: Final = 32
SALT_BYTES: Final = (8, 64)
#: Fewer bytes are no safe digest; more are the output of no hash function that is accepted.
DIGEST_BYTES: Final = (16, 64)
#: Ours have fewer than 150.
HASH_CHARACTERS: Final = 512

_BASE64: Final = r"[A-Za-z0-9+/.]+={0,2}"
#: Argon2's own library takes base64 without padding alone, and numbers without leading zeros.
_BARE_BASE64: Final = r"[A-Za-z0-9+/]+"
_ARGON2: Final = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=(?P<m>[1-9]\d{0,6}),t=(?P<t>[1-9]\d{0,2}),p=(?P<p>[1-9]\d{0,2})"
    rf"\$(?P<salt>{_BARE_BASE64})\$(?P<digest>{_BARE_BASE64})",
    re.ASCII,
)
#: Nearly every Argon2 hash has 16 bytes of salt and 32 of digest; of these the pattern alone checks the lengths.
_USUAL_ARGON2: Final = re.compile(
    r"\$argon2id\$v=19\$m=([1-9]\d{0,6}),t=([1-9]\d{0,2}),p=([1-9]\d{0,2})"
    r"\$[A-Za-z0-9+/]{21}[AQgw]\$[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]",
    re.ASCII,
)
_BCRYPT: Final = re.compile(
    r"\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{21}(?P<last>[./A-Za-z0-9])[./A-Za-z0-9]{31}", re.ASCII
)
_PBKDF2: Final = re.compile(
    rf"\$pbkdf2(?:-(?P<function>sha1|sha256|sha512))?\$(?:i=)?(?P<i>\d{{1,8}})(?:,l=\d+)?"
    rf"\$(?P<salt>{_BASE64})\$(?P<digest>{_BASE64})",
    re.ASCII,
)
_SCRYPT: Final = re.compile(
    rf"\$scrypt\$ln=(?P<ln>\d{{1,2}}),r=(?P<r>\d{{1,3}}),p=(?P<p>\d{{1,3}})\$(?P<salt>{_BASE64})\$(?P<digest>{_BASE64})",
    re.ASCII,
)


_NO_BASE64: Final = "has a salt or a digest that is no base64"
#: The letters that base64 may end in. The libraries of Argon2 and bcrypt refuse a last letter whose bits beyond the
#: last byte are not 0. For Argon2 they depend on the number of letters modulo 4.
_LAST_OF_ARGON2: Final = {0: None, 2: "AQgw", 3: "AEIMQUYcgkosw048"}
_LAST_OF_BCRYPT: Final = ".Oeu"


class UnacceptableHashError(ValueError):
    """The text is no hash of a form that is accepted, or one whose check would cost too much; says which."""


def check(password_hash: str) -> str:
    """The hash itself, where it is of an accepted form and its check is not too expensive.

    Raises:
        UnacceptableHashError: it is not.
    """
    if len(password_hash) <= HASH_CHARACTERS:
        for form, examine in _EXAMINERS.items():
            if match := form.fullmatch(password_hash):
                examine(match)
                return password_hash
    raise UnacceptableHashError(
        "is no Argon2, bcrypt, PBKDF2 or scrypt hash in PHC or modular crypt form, such as $argon2id$v=19$m=..."
    )


def verify(password: str, password_hash: str) -> bool:
    """Whether this is the password of an accepted hash.

    The hash's own parameters say how long that takes, so call it in a thread.
    """
    for form, matches in _VERIFIERS.items():
        if match := form.fullmatch(password_hash):
            return matches(password, match)
    raise UnacceptableHashError("is no hash of a form that is accepted")


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UnacceptableHashError(f"has {name} {value}; {least} to {most} is accepted")


def _examine_usual_argon2(match: re.Match[str]) -> None:
    _examine_argon2_cost(*match.groups())


def _examine_argon2(match: re.Match[str]) -> None:
    _examine_argon2_cost(match["m"], match["t"], match["p"])
    _examine_bytes(match)
    for text in (match["salt"], match["digest"]):
        allowed = _LAST_OF_ARGON2[len(text) % 4]
        if allowed and text[-1] not in allowed:
            raise UnacceptableHashError(_NO_BASE64)


# The hashes of an import share a handful of costs. Errors are not kept.
@lru_cache(maxsize=64)
def _examine_argon2_cost(memory: str, time: str, parallelism: str) -> None:
    _within("parallelism", int(parallelism), 1, ARGON2_PARALLELISM)
    _within("memory in KiB", int(memory), 8 * int(parallelism), ARGON2_MEMORY_KIB)
    _within("memory in KiB times passes", int(memory) * int(time), 1, ARGON2_WORK)


def _examine_bcrypt(match: re.Match[str]) -> None:
    _within("cost", int(match["cost"]), *BCRYPT_COST)
    if match["last"] not in _LAST_OF_BCRYPT:
        raise UnacceptableHashError(_NO_BASE64)


def _examine_pbkdf2(match: re.Match[str]) -> None:
    _examine_bytes(match)
    blocks = -(-_length(match["digest"]) // PBKDF2_BLOCK_BYTES[match["function"] or "sha1"])
    _within("iterations times blocks", int(match["i"]) * blocks, 1, PBKDF2_WORK)


def _examine_scrypt(match: re.Match[str]) -> None:
    _within("p", int(match["p"]), 1, SCRYPT_PARALLELISM)
    _within("r", int(match["r"]), 1, 64)
    # RFC 7914, section 2: N must be less than 2^(128 r / 8).
    _within("ln", int(match["ln"]), 1, min(24, 16 * int(match["r"]) - 1))
    _within("N times r times p", 2 ** int(match["ln"]) * int(match["r"]) * int(match["p"]), 1, SCRYPT_WORK)
    _examine_bytes(match)


def _examine_bytes(match: re.Match[str]) -> None:
    _within("bytes of salt", _length(match["salt"]), *SALT_BYTES)
    _within("bytes of digest", _length(match["digest"]), *DIGEST_BYTES)


def _length(text: str) -> int:
    """How many bytes the base64 stands for; the pattern has checked its letters."""
    letters = len(text.rstrip("="))
    if letters % 4 == 1:
        raise UnacceptableHashError(_NO_BASE64)
    return letters * 3 // 4


def _decode(text: str) -> bytes:
    bare = text.rstrip("=").replace(".", "+")
    try:
        return b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error as error:
        raise UnacceptableHashError(_NO_BASE64) from error


def _scrypt_memory(match: re.Match[str]) -> int:
    return int(128 * int(match["r"]) * 2 ** int(match["ln"]))


def _matches_argon2(password: str, match: re.Match[str]) -> bool:
    try:
        return PasswordHasher().verify(match.string, password)
    except VerifyMismatchError:
        return False
    except VerificationError as error:
        raise UnacceptableHashError("cannot be checked") from error


def _matches_bcrypt(password: str, match: re.Match[str]) -> bool:
    return bool(bcrypt.checkpw(password.encode()[:BCRYPT_BYTES], match.string.encode()))


def _matches_pbkdf2(password: str, match: re.Match[str]) -> bool:
    expected = _decode(match["digest"])
    function = match["function"] or "sha1"
    made = hashlib.pbkdf2_hmac(function, password.encode(), _decode(match["salt"]), int(match["i"]), len(expected))
    return hmac.compare_digest(made, expected)


def _matches_scrypt(password: str, match: re.Match[str]) -> bool:
    expected = _decode(match["digest"])
    made = hashlib.scrypt(
        password.encode(),
        salt=_decode(match["salt"]),
        n=2 ** int(match["ln"]),
        r=int(match["r"]),
        p=int(match["p"]),
        # OpenSSL counts a little more than the table.
        maxmem=_scrypt_memory(match) + 64 * 1024 * 1024,
        dklen=len(expected),
    )
    return hmac.compare_digest(made, expected)


_EXAMINERS: Final[Mapping[re.Pattern[str], Callable[[re.Match[str]], None]]] = {
    _USUAL_ARGON2: _examine_usual_argon2,
    _ARGON2: _examine_argon2,
    _BCRYPT: _examine_bcrypt,
    _PBKDF2: _examine_pbkdf2,
    _SCRYPT: _examine_scrypt,
}
_VERIFIERS: Final[Mapping[re.Pattern[str], Callable[[str, re.Match[str]], bool]]] = {
    _ARGON2: _matches_argon2,
    _BCRYPT: _matches_bcrypt,
    _PBKDF2: _matches_pbkdf2,
    _SCRYPT: _matches_scrypt,
}

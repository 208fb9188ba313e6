"""scrypt (RFC 7914) as the PHC form and passlib have it, as Django has it, as $7$, and Firebase's variant.

$7$ is what libxcrypt and libsodium write. Firebase encrypts its project's signer key with what scrypt derives, and
keeps the result; the project's parameters are in the string, as other services that take Firebase's users write it.
"""

from __future__ import annotations

import re
from hashlib import scrypt
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from command_api.passwords.forms.form import (
    BASE64,
    NO_BASE64,
    TEXT,
    Form,
    UnacceptableHashError,
    decode,
    examine_bytes,
    examine_digest,
    examine_salt,
    pattern,
    size_of,
    within,
)

#: N r p (RFC 7914). One check takes 128 N r bytes: 256 MiB at this bound.
WORK: Final = 2 * 1024 * 1024
PARALLELISM: Final = 32
BLOCK_SIZE: Final = 64
#: OpenSSL counts a little more than the table.
_MORE_BYTES: Final = 64 * 1024 * 1024

_PHC: Final = pattern(
    rf"\$scrypt\$ln=(?P<ln>\d{{1,2}}),r=(?P<r>\d{{1,3}}),p=(?P<p>\d{{1,3}})\$(?P<salt>{BASE64})\$(?P<digest>{BASE64})"
)
_DJANGO: Final = pattern(
    rf"scrypt\$(?P<n>\d{{1,8}})\$(?P<salt>{TEXT})\$(?P<r>\d{{1,3}})\$(?P<p>\d{{1,3}})\$(?P<digest>{BASE64})"
)
_FIREBASE: Final = pattern(
    r"\$fbscrypt\$v=1,n=(?P<ln>\d{1,2}),r=(?P<r>\d{1,3}),p=(?P<p>\d{1,3})"
    r"(?:,ss=(?P<separator>[A-Za-z0-9+/_-]*={0,2}))?,sk=(?P<key>[A-Za-z0-9+/_-]+={0,2})"
    r"\$(?P<salt>[A-Za-z0-9+/_-]+={0,2})\$(?P<digest>[A-Za-z0-9+/_-]+={0,2})"
)
_CRYPT: Final = pattern(
    r"\$7\$(?P<ln>[./0-9A-Za-z])(?P<r>[./0-9A-Za-z]{5})(?P<p>[./0-9A-Za-z]{5})(?P<salt>[./0-9A-Za-z]+)"
    r"\$(?P<digest>[./0-9A-Za-z]+)"
)
#: The letters of crypt(3), each six bits, the lowest ones first.
_LETTERS: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CRYPT_DIGEST_BYTES: Final = 32
_CRYPT_DIGEST_LETTERS: Final = 43


def _examine_work(ln: int, r: int, p: int) -> None:
    within("p", p, 1, PARALLELISM)
    within("r", r, 1, BLOCK_SIZE)
    # RFC 7914, section 2: N must be less than 2^(128 r / 8).
    within("ln", ln, 1, min(24, 16 * r - 1))
    within("N times r times p", 2**ln * r * p, 1, WORK)


def _derive(password: str, salt: bytes, cost: tuple[int, int, int], size: int) -> bytes:
    """The digest that scrypt makes of the password; `cost` is the logarithm of N, r and p."""
    ln, r, p = cost
    return scrypt(password.encode(), salt=salt, n=2**ln, r=r, p=p, maxmem=128 * r * 2**ln + _MORE_BYTES, dklen=size)


def _cost(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match["ln"]), int(match["r"]), int(match["p"])


def _examine_phc(match: re.Match[str]) -> None:
    _examine_work(*_cost(match))
    examine_bytes(match)


def _matches_phc(password: str, match: re.Match[str]) -> bool:
    expected = decode(match["digest"])
    return compare_digest(_derive(password, decode(match["salt"]), _cost(match), len(expected)), expected)


def _django_cost(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match["n"]).bit_length() - 1, int(match["r"]), int(match["p"])


def _examine_django(match: re.Match[str]) -> None:
    if int(match["n"]).bit_count() != 1:
        raise UnacceptableHashError(f"has N {match['n']}, which is no power of 2")
    _examine_work(*_django_cost(match))
    examine_salt(len(match["salt"]))
    examine_digest(size_of(match["digest"]))


def _matches_django(password: str, match: re.Match[str]) -> bool:
    expected = decode(match["digest"])
    return compare_digest(_derive(password, match["salt"].encode(), _django_cost(match), len(expected)), expected)


def _firebase_bytes(match: re.Match[str], name: str) -> bytes:
    """Firebase's tools write base64 in either alphabet."""
    return decode((match[name] or "").replace("-", "+").replace("_", "/"))


def _examine_firebase(match: re.Match[str]) -> None:
    _examine_work(*_cost(match))
    examine_bytes(match)
    examine_salt(size_of(match["salt"]) + size_of(match["separator"] or ""))
    if size_of(match["key"]) != size_of(match["digest"]):
        raise UnacceptableHashError("has a digest that is not as long as the signer key, which it is made of")


def _matches_firebase(password: str, match: re.Match[str]) -> bool:
    salt = _firebase_bytes(match, "salt") + _firebase_bytes(match, "separator")
    # Its scrypt derives 64 bytes, of which the first 32 are the key: the same as when only these are derived.
    key = _derive(password, salt, _cost(match), 32)
    made = Cipher(AES(key), CTR(bytes(16))).encryptor().update(_firebase_bytes(match, "key"))
    return compare_digest(made, _firebase_bytes(match, "digest"))


def _crypt_number(letters: str) -> int:
    return sum(_LETTERS.index(letter) << 6 * place for place, letter in enumerate(letters))


def _crypt_cost(match: re.Match[str]) -> tuple[int, int, int]:
    return _crypt_number(match["ln"]), _crypt_number(match["r"]), _crypt_number(match["p"])


def _examine_crypt(match: re.Match[str]) -> None:
    _examine_work(*_crypt_cost(match))
    examine_salt(len(match["salt"]))
    letters = len(match["digest"])
    if letters > _CRYPT_DIGEST_LETTERS:
        raise UnacceptableHashError(
            f"has a digest that is too long: {letters} letters, $7$ has {_CRYPT_DIGEST_LETTERS}"
        )
    within("letters of digest", letters, _CRYPT_DIGEST_LETTERS, _CRYPT_DIGEST_LETTERS)
    if _crypt_number(match["digest"]).bit_length() > 8 * _CRYPT_DIGEST_BYTES:
        raise UnacceptableHashError(NO_BASE64)


def _matches_crypt(password: str, match: re.Match[str]) -> bool:
    expected = _crypt_number(match["digest"]).to_bytes(_CRYPT_DIGEST_BYTES, "little")
    return compare_digest(_derive(password, match["salt"].encode(), _crypt_cost(match), len(expected)), expected)


FORMS: Final = (
    Form(_PHC, _examine_phc, _matches_phc),
    Form(_DJANGO, _examine_django, _matches_django),
    Form(_FIREBASE, _examine_firebase, _matches_firebase),
    Form(_CRYPT, _examine_crypt, _matches_crypt),
)

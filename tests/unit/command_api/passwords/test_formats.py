"""Hashes of imported users: every form that is accepted, made by others and by the function itself, and its bounds."""

import hashlib
from base64 import b64encode

import pytest
from argon2 import PasswordHasher, Type
from hypothesis import given
from hypothesis import strategies as st

from command_api.passwords.formats import HASH_CHARACTERS, check, needs_rehash, verify
from command_api.passwords.forms.form import UnacceptableHashError
from tests.unit.command_api.passwords.foreign_hashes import FOREIGN, PASSWORD, PUBLISHED_BY_FIREBASE
from tests.unit.docs.pages import REFERENCE, code_words, table_rows

SALT = b"sixteen bytes !!"


def b64(raw: bytes) -> str:
    return b64encode(raw).decode().rstrip("=")


def pbkdf2(function: str, prefix: str, iterations: int = 1000) -> str:
    digest = hashlib.pbkdf2_hmac(function, PASSWORD.encode(), SALT, iterations)
    return f"{prefix}${b64(SALT)}${b64(digest)}"


def scrypt(ln: int, r: int, p: int) -> str:
    digest = hashlib.scrypt(PASSWORD.encode(), salt=SALT, n=2**ln, r=r, p=p, dklen=32)
    return f"$scrypt$ln={ln},r={r},p={p}${b64(SALT)}${b64(digest)}"


def argon2(kind: Type) -> str:
    return PasswordHasher(memory_cost=64, time_cost=1, parallelism=2, type=kind).hash(PASSWORD)


ACCEPTED = {
    "argon2id": argon2(Type.ID),
    "argon2i": argon2(Type.I),
    "argon2d": argon2(Type.D),
    "pbkdf2-sha256 as PHC has it": pbkdf2("sha256", "$pbkdf2-sha256$i=1000"),
    "pbkdf2-sha512 as passlib has it": pbkdf2("sha512", "$pbkdf2-sha512$1000").replace("+", "."),
    "pbkdf2-sha1 as passlib has it": pbkdf2("sha1", "$pbkdf2$1000").replace("+", "."),
    "scrypt": scrypt(4, 8, 1),
}


@pytest.mark.parametrize("password_hash", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_an_accepted_hash_knows_its_password_and_no_other(password_hash: str) -> None:
    assert check(password_hash) == password_hash
    assert verify(PASSWORD, password_hash)
    assert not verify(PASSWORD + "!", password_hash)


@pytest.mark.parametrize("password_hash", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_hash_of_another_implementation_knows_its_password_and_no_other(password_hash: str) -> None:
    assert check(password_hash) == password_hash
    assert verify(PASSWORD, password_hash)
    assert not verify(PASSWORD + "!", password_hash)
    assert needs_rehash(password_hash, PasswordHasher())


def test_the_page_of_hashes_shows_hashes_of_others() -> None:
    rows = table_rows((REFERENCE / "password-hashes.md").read_text(encoding="utf-8"))
    examples = {example for row in rows if len(row) == 3 for example in code_words(row[2])}

    assert examples
    assert examples <= set(FOREIGN.values())


def test_firebases_own_example_is_read_in_either_alphabet() -> None:
    for text in (PUBLISHED_BY_FIREBASE, PUBLISHED_BY_FIREBASE.replace("+", "-").replace("/", "_")):
        assert check(text) == text
        assert verify("user1password", text)


def test_a_hash_of_ours_needs_another_where_the_parameters_changed() -> None:
    ours = PasswordHasher(memory_cost=64, time_cost=1, parallelism=1)

    password_hash = ours.hash(PASSWORD)

    assert not needs_rehash(password_hash, ours)
    assert needs_rehash(password_hash, PasswordHasher(memory_cost=64, time_cost=2, parallelism=1))
    assert needs_rehash(argon2(Type.I), PasswordHasher(memory_cost=64, time_cost=1, parallelism=2, type=Type.I))


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
def test_bcrypt_is_accepted(version: str) -> None:
    password_hash = f"${version}$12$" + "a" * 21 + "O" + "a" * 31

    assert check(password_hash) == password_hash


DIGEST = b64(b"d" * 32)
TOO_MUCH = {
    f"$argon2id$v=19$m={256 * 1024 + 1},t=2,p=1${b64(SALT)}${DIGEST}": "memory",
    f"$argon2id$v=19$m=262144,t=9,p=1${b64(SALT)}${DIGEST}": "memory in KiB times passes",
    f"$argon2id$v=19$m=65536,t=2,p=33${b64(SALT)}${DIGEST}": "parallelism",
    f"$argon2id$v=19$m=7,t=2,p=1${b64(SALT)}${DIGEST}": "memory",
    "$2b$15$" + "a" * 53: "cost",
    "$2b$03$" + "a" * 53: "cost",
    f"$pbkdf2-sha256$i=2000001${b64(SALT)}${DIGEST}": "iterations",
    f"$pbkdf2-sha256$i=0${b64(SALT)}${DIGEST}": "iterations",
    f"pbkdf2_sha256$2000001${b64(SALT)}${DIGEST}": "iterations",
    f"$scrypt$ln=19,r=8,p=1${b64(SALT)}${DIGEST}": "N times r times p",
    f"$scrypt$ln=14,r=8,p=17${b64(SALT)}${DIGEST}": "N times r times p",
    f"$scrypt$ln=99,r=8,p=1${b64(SALT)}${DIGEST}": "ln",
    f"$scrypt$ln=4,r=8,p=33${b64(SALT)}${DIGEST}": "p 33",
    f"$argon2id$v=19$m=65536,t=2,p=1${b64(b'short')}${DIGEST}": "salt",
    f"$argon2id$v=19$m=65536,t=2,p=1${b64(SALT)}${b64(b'short')}": "digest",
    f"$argon2id$v=19$m=65536,t=2,p=1$a${DIGEST}": "base64",
    # What the libraries that check hashes do not read.
    f"$argon2id$v=19$m=65536,t=2,p=1${b64(SALT)[:-1]}x${DIGEST}": "base64",
    f"$argon2id$v=19$m=65536,t=2,p=1${b64(SALT)}${DIGEST[:-1]}1": "base64",
    "$2b$12$" + "a" * 53: "base64",
    f"$scrypt$ln=16,r=1,p=1${b64(SALT)}${DIGEST}": "ln 16; 1 to 15",
    f"argon2$argon2id$v=19$m=262145,t=2,p=1${b64(SALT)}${DIGEST}": "memory",
    f"$argon2id$v=19$m=999999999,t=2,p=1${b64(SALT)}${DIGEST}": "memory",
    f"scrypt$1048576${b64(SALT)}$8$1${DIGEST}": "N times r times p",
    f"scrypt$16383${b64(SALT)}$8$1${DIGEST}": "no power of 2",
    f"scrypt$16384$salt$8$1${DIGEST}": "bytes of salt 4",
    f"$7$H6..../....eighteenletters${'a' * 43}": "N times r times p",
    f"$7$86..../....eighteenletters${'z' * 43}": "base64",
    f"$7$86..../....eighteenletters${'a' * 42}": "letters of digest 42",
    f"$fbscrypt$v=1,n=19,r=8,p=1,sk={DIGEST}${b64(SALT)}${DIGEST}": "N times r times p",
    f"$fbscrypt$v=1,n=14,r=8,p=1,sk={DIGEST}${b64(SALT)}${b64(b'd' * 64)}": "as long as the signer key",
    # What is only too long.
    f"$argon2id$v=19$m=65536,t=2,p=1${b64(SALT)}${b64(b'd' * 65)}": "digest that is too long: 65 bytes, 64 at most",
    f"$pbkdf2-sha512$i=1000${b64(SALT)}${b64(b'd' * 512)}": "digest that is too long: 512 bytes, 64 at most",
    f"pbkdf2_sha256$1000${b64(SALT)}${b64(b'd' * 65)}": "digest that is too long",
    f"$scrypt$ln=4,r=8,p=1${b64(SALT)}${b64(b'd' * 65)}": "digest that is too long",
    "$2b$12$" + "a" * 21 + "O" + "a" * 32: "digest that is too long: 32 letters, bcrypt has 31",
    f"$7$86..../....eighteenletters${'a' * 44}": "digest that is too long: 44 letters",
    f"$pbkdf2-sha512$i=1000${b64(b's' * 512)}${DIGEST}": "bytes of salt 512; 8 to 64",
}


def test_a_text_that_is_longer_than_any_hash_is_told_the_limit() -> None:
    with pytest.raises(UnacceptableHashError, match=f"has {HASH_CHARACTERS + 1} characters; a hash has 512 at most"):
        check("x" * (HASH_CHARACTERS + 1))
    with pytest.raises(UnacceptableHashError, match="is no Argon2"):
        check("x" * HASH_CHARACTERS)


@pytest.mark.parametrize(("password_hash", "why"), TOO_MUCH.items())
def test_a_hash_whose_check_would_cost_too_much_is_refused(password_hash: str, why: str) -> None:
    with pytest.raises(UnacceptableHashError, match=why):
        check(password_hash)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "password",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "$1$salt$hash",
        "$argon2id$v=17$m=8,t=1,p=1$a$b",
        f"$argon2id$v=19$m=008,t=1,p=1${b64(SALT)}${DIGEST}",
        "bcrypt_sha512$$2b$12$" + "a" * 21 + "O" + "a" * 31,
        f"$argon2id$v=19$m=\u0668,t=1,p=1${b64(SALT)}${DIGEST}",
        "$2b$0\u0664$" + "a" * 21 + "O" + "a" * 31,
        "$" * 500,
    ],
)
def test_what_is_no_hash_of_a_known_form_is_refused(text: str) -> None:
    with pytest.raises(UnacceptableHashError, match="in a form that is accepted"):
        check(text)


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/.="
PARAMETERS = st.one_of(
    st.builds("$argon2{}$v=19$m={},t={},p={}".format, st.sampled_from(["d", "i", "id"]), *[st.integers(0, 64)] * 3),
    st.builds("$2b${:02d}".format, st.integers(3, 5)),
    st.builds("$pbkdf2{}${}".format, st.sampled_from(["", "-sha256", "-sha1"]), st.integers(0, 20)),
    st.builds("$scrypt$ln={},r={},p={}".format, st.integers(0, 9), st.integers(0, 3), st.integers(0, 3)),
    st.builds("argon2$argon2id$m={},t={},p={}".format, *[st.integers(0, 64)] * 3),
    st.builds("pbkdf2_sha256${}".format, st.integers(0, 20)),
    st.builds("$fbscrypt$v=1,n={},r=1,p=1,ss={},sk={}".format, st.integers(0, 9), *[st.text("Aa+_=", max_size=60)] * 2),
)


@given(
    parameters=PARAMETERS,
    salt=st.text(LETTERS, min_size=1, max_size=30),
    digest=st.text(LETTERS, min_size=20, max_size=60),
    exact=st.booleans(),
)
def test_whatever_is_accepted_can_be_checked(parameters: str, salt: str, digest: str, exact: bool) -> None:
    """Else the first who gives the current password would learn of it, by a 500."""
    if parameters.startswith("$2b"):
        text = f"{parameters}${(salt + digest).replace('+', 'A').replace('=', 'A')[:53]:.<53}"
    elif exact:
        text = f"{parameters}${b64(salt.encode())}${b64(digest.encode())}"
    else:
        text = f"{parameters}${salt}${digest}"
    try:
        check(text)
    except UnacceptableHashError:
        return
    assert len(text) <= HASH_CHARACTERS
    assert verify(PASSWORD, text) is False

"""A password never leaves this machine: what is sent is its verifier, as PostgreSQL would have made it."""

import hashlib
import hmac
from base64 import b64decode

import pytest

from cli.roles.scram import PasswordError, verifier


def test_a_verifier_is_made_of_the_password_and_does_not_hold_it() -> None:
    kind, parameters, keys = verifier("hunter2").split("$")
    iterations, salt = parameters.split(":")
    stored, server = (b64decode(key) for key in keys.split(":"))
    salted = hashlib.pbkdf2_hmac("sha256", b"hunter2", b64decode(salt), int(iterations))

    assert (kind, int(iterations)) == ("SCRAM-SHA-256", 4096)
    assert stored == hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    assert server == hmac.digest(salted, b"Server Key", "sha256")
    assert verifier("hunter2") != verifier("hunter2"), "a salt of its own each time"


@pytest.mark.parametrize("password", ["", "Paßwort", "tab\there", "line\n"])
def test_a_password_that_may_be_read_in_two_ways_is_refused(password: str) -> None:
    with pytest.raises(PasswordError, match="printable ASCII"):
        verifier(password)

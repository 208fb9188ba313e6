"""Password hashes in the forms we accept: Argon2 (ours), and bcrypt, PBKDF2 and scrypt of imported users.

Parameters are bounded: a hash that takes minutes or gigabytes to check is an attack on whoever checks it.
"""

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError


def verify(password: str, password_hash: str) -> bool:
    """Whether the password is that of the hash; the hash brings its own parameters. Takes long: call it in a thread."""
    try:
        return PasswordHasher().verify(password_hash, password)
    except VerifyMismatchError:
        return False

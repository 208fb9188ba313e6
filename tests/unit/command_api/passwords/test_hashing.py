"""Hashes and checks keep out of each other's way."""

import asyncio

import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr

from command_api.passwords.hashing import CHECKS_WAITING, HashingBusyError, Passwords

PASSWORD = SecretStr("correct horse")
CHEAP = PasswordHasher(memory_cost=8, time_cost=1, parallelism=1)
#: Half a second of work for each check.
DEAR = "$pbkdf2-sha256$i=2000000$c2FsdHNhbHQ$ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGlnZXN0"


async def test_a_crowd_of_dear_checks_stops_no_hash_and_is_bounded() -> None:
    with Passwords.open(CHEAP, threads=1, queue=64) as passwords:
        checks = [asyncio.create_task(passwords.matches(PASSWORD, DEAR)) for _ in range(CHECKS_WAITING + 1)]
        await asyncio.sleep(0)

        with pytest.raises(HashingBusyError):
            await passwords.matches(PASSWORD, DEAR)
        await passwords.hash(PASSWORD)

        assert not any(check.done() for check in checks[1:])
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

"""Hashes and checks keep out of each other's way, and a hash is checked as often as its form asks for."""

import asyncio

import pytest
from argon2 import PasswordHasher
from prometheus_client import REGISTRY
from pydantic import SecretStr

from chassis.http.transport.client import Client, client
from command_api.passwords.hashing import CHECKS_WAITING, Passwords
from command_api.passwords.lanes import HashingBusyError

PASSWORD = SecretStr("correct horse")
ANN = "whose attempts they are"
CHEAP = PasswordHasher(memory_cost=8, time_cost=1, parallelism=1)
#: A second of work for each check.
DEAR = "$pbkdf2-sha256$i=2000000$c2FsdHNhbHQ$ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGlnZXN0"


async def test_a_crowd_of_dear_checks_stops_no_hash_and_is_bounded() -> None:
    with Passwords.open(CHEAP, threads=1, queue=64) as passwords:
        checks = [asyncio.create_task(passwords.matches(PASSWORD, DEAR, ANN)) for _ in range(CHECKS_WAITING + 1)]
        await asyncio.sleep(0)

        with pytest.raises(HashingBusyError):
            await passwords.matches(PASSWORD, DEAR, ANN)
        await passwords.hash(PASSWORD)

        assert not any(check.done() for check in checks[1:])
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)


def checks(form: str) -> float:
    return REGISTRY.get_sample_value("muster_password_checks_total", {"form": form}) or 0


#: As it was typed, its NFC and its NFKC are three texts.
LIGATURE = "o\ufb03ce e\u0301t\u00e9"


@pytest.mark.parametrize(
    ("made_of", "tries"),
    [
        (LIGATURE, 1),
        ("o\ufb03ce \u00e9t\u00e9", 2),
        ("office \u00e9t\u00e9", 3),
    ],
)
async def test_a_foreign_hash_is_checked_in_one_unicode_form_after_another(made_of: str, tries: int) -> None:
    foreign = PasswordHasher(memory_cost=16, time_cost=1, parallelism=1).hash(made_of)
    before = checks("foreign")

    with Passwords.open(CHEAP, threads=1, queue=1) as passwords:
        assert await passwords.matches(SecretStr(LIGATURE), foreign, ANN)
        assert checks("foreign") - before == tries
        assert not await passwords.matches(SecretStr(LIGATURE + "!"), foreign, ANN)
        assert checks("foreign") - before == tries + 3
        assert not await passwords.matches(SecretStr("plain"), foreign, ANN)
        assert checks("foreign") - before == tries + 4


async def test_a_hash_of_ours_is_checked_once_whatever_the_password() -> None:
    with Passwords.open(CHEAP, threads=1, queue=1) as passwords:
        ours = await passwords.hash(SecretStr(LIGATURE))
        before = checks("own")

        assert await passwords.matches(SecretStr(LIGATURE), ours, ANN)
        assert not await passwords.matches(SecretStr(LIGATURE + "!"), ours, ANN)

        assert checks("own") - before == 2


async def test_what_nobody_waits_for_any_more_is_dropped() -> None:
    client.set(Client(waits=False))
    with Passwords.open(CHEAP, threads=1, queue=64) as passwords:
        for dropped in (passwords.hash(PASSWORD), passwords.matches(PASSWORD, "no hash: to check it fails", ANN)):
            with pytest.raises(HashingBusyError, match="or the client has left"):
                await dropped

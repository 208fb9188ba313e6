"""Device tokens say whose they are, and nobody else can make one."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from command_api.credentials.device_tokens import DeviceTokens
from command_api.credentials.keys import CredentialKeys

OLD, NEW = "an old secret of thirty-two chars", "a new secret of thirty-two chars!"
DAYS = timedelta(days=180)
NOW = datetime(2026, 11, 29, 22, 0, tzinfo=UTC)


def tokens(*secrets: str, now: datetime = NOW) -> DeviceTokens:
    return DeviceTokens(CredentialKeys.derive(secrets), lifetime=DAYS, clock=lambda: now)


def test_a_token_says_whose_it_is_and_each_has_a_nonce_of_its_own() -> None:
    user, event = uuid4(), uuid4()

    first, second = (tokens(NEW).read(tokens(NEW).make(user, event)) for _ in range(2))

    assert first is not None
    assert second is not None
    assert (first.user_id, first.password_set_by) == (user, event)
    assert first.nonce != second.nonce


def test_the_first_secret_signs_and_all_verify() -> None:
    token = tokens(OLD).make(UUID(int=1), UUID(int=2))

    assert tokens(NEW, OLD).read(token)
    assert tokens(NEW).read(token) is None
    assert tokens(OLD).read(tokens(NEW, OLD).make(UUID(int=1), UUID(int=2))) is None


def test_a_token_expires() -> None:
    token = tokens(NEW).make(UUID(int=1), UUID(int=2))

    assert tokens(NEW, now=NOW + DAYS - timedelta(seconds=1)).read(token)
    assert tokens(NEW, now=NOW + DAYS).read(token) is None


def test_no_byte_of_a_token_can_be_changed() -> None:
    raw = bytearray(base64.urlsafe_b64decode(tokens(NEW).make(UUID(int=1), UUID(int=2)) + "="))

    for place in range(len(raw)):
        raw[place] ^= 1
        assert tokens(NEW).read(base64.urlsafe_b64encode(raw).decode()) is None
        raw[place] ^= 1


@pytest.mark.parametrize("text", [None, "", "x", "%%%%", "é" * 8, "A" * 119, "\ud800"])
def test_what_is_no_token_of_ours_is_none(text: str | None) -> None:
    assert tokens(NEW).read(text) is None

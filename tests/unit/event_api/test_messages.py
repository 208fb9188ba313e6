"""A record that is no event of ours is left out, whatever is wrong with it."""

from dataclasses import replace
from typing import Any, cast

import pytest
from aiokafka import ConsumerRecord

from event_api.users.messages import UserRecord
from events.user_events import UserRegistered
from tests.integration.projectors.stream import FakeRecord, new_user, record

GOOD = record(UserRegistered(user=new_user()))
GOOD_VALUE = cast("bytes", GOOD.value)


def with_header(name: str, value: bytes) -> FakeRecord:
    return replace(GOOD, headers=[*((key, old) for key, old in GOOD.headers if key != name), (name, value)])


def read(fake: FakeRecord) -> UserRecord:
    return UserRecord(cast("ConsumerRecord[Any, Any]", fake))


def test_an_event_of_ours_has_its_type() -> None:
    assert read(GOOD).type == "muster.user.registered.v1"


@pytest.mark.parametrize(
    "wrong",
    [
        with_header("ce_time", b"0001-01-01T00:00:00+14:00"),
        with_header("ce_time", b"9999-12-31T23:59:59-14:00"),
        with_header("ce_sequence", b"9" * 5000),
        with_header("ce_id", b"\xff"),
        replace(GOOD, value=b"\n" + b"[" * 100_000),
        replace(GOOD, value=None),
        replace(GOOD, value=GOOD_VALUE.replace(b'"attributes":{', b'"attributes":{"x":"\xff",')),
        replace(GOOD, value=b'{"user":5}'),
        replace(GOOD, value=b'{"user":{}}'),
        replace(GOOD, value=GOOD_VALUE.replace(b'"version":1', b'"version":2')),
        replace(GOOD, value=record(UserRegistered(user=new_user(2))).value),
    ],
)
def test_what_is_none_is_left_out(wrong: FakeRecord) -> None:
    assert read(wrong).type == ""


def test_all_who_want_the_whole_share_one_text() -> None:
    """Of a thousand streams with full=true none makes it anew."""
    item = read(GOOD)

    assert item.json(full=True) is item.json(full=True)
    assert item.json(full=False) is item.json(full=False)
    assert b'"user":{' in item.json(full=True)
    assert b'"user":{' not in item.json(full=False)

"""`make contract LOG=…`: its exit codes, against a real topic."""

import asyncio
import sys
from dataclasses import replace

import pytest

from chassis.settings import Kafka, Topics
from contract.__main__ import main
from events.user_events import UserRegistered
from tests.conftest import kafka_variables
from tests.integration.projectors.stream import Publisher, new_user, record


async def test_a_log_that_cannot_be_read_is_an_error_and_its_records_are_named(
    kafka: Kafka, topics: Topics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in kafka_variables(kafka).items():
        monkeypatch.setenv(name, value)

    async def run(topic: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["contract", "--log", topic])
        code = await asyncio.to_thread(main)
        return code, *capsys.readouterr()

    ann, ben = (record(UserRegistered(user=new_user(number))) for number in range(2))
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        await publisher.publish([ann])
        kept = await run(topics.events_topic)
        await publisher.publish([replace(ben, value=b"{}")])
        broken = await run(topics.events_topic)
    absent = await run(f"{topics.events_topic}.absent")

    assert kept == (0, "1 records, 1 living users: all can be read.\nThe contract is kept.\n", "")
    assert broken[:2] == (1, "2 records, 2 living users: 1 are unreadable.\n")
    assert f"{topics.events_topic} " in broken[2]
    assert "projectors would park it" in broken[2]
    assert broken[2].endswith("The contract is broken.\n")
    assert absent[0] == 1
    assert f"{topics.events_topic}.absent cannot be read: " in absent[2]

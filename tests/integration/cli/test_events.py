"""`muster events tail` and `show`, beside a real topic."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chassis.identifiers import new_id
from chassis.settings import Kafka, Topics
from events.user_events import UserEmailChanged, UserErased, UserRegistered, UserSnapshot
from tests.forks import NOWHERE, Fork
from tests.integration.muster_processes import environment, main, muster
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.servers.private_servers import nowhere
from tests.waiting import until

ANN, BEN = new_user(1), new_user(2)
MOVED = ANN.model_copy(update={"email": "new@example.com", "version": 2})
OLD = [record(UserRegistered(user=ANN)), record(UserRegistered(user=BEN))]
NEW = [record(UserEmailChanged(user=MOVED, previous={"email": ANN.email})), record(UserErased(BEN.id, 2))]


def ce_id(item: FakeRecord) -> str:
    return (dict(item.headers)["ce_id"] or b"").decode()


@pytest.fixture
def variables(kafka: Kafka, topics: Topics) -> dict[str, str]:
    return environment(kafka, topics, nowhere(), nowhere())


def _lines(out: Path) -> list[str]:
    return out.read_text().splitlines() if out.exists() else []


async def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1024)
    except BlockingIOError:
        return b""


async def tailed(variables: dict[str, str], out: Path, count: int, *options: str) -> list[dict[str, Any]]:
    """What it has shown once there are so many lines; it ends by Ctrl-C."""
    process = await Fork.start(main, "events", "tail", "--json", *options, environment=variables, out=out, err=NOWHERE)
    try:

        async def lines() -> list[str]:
            found = _lines(out)
            return found if len(found) >= count else []

        found = await until(lines, within=60, what="the lines")
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        process.kill()
    return [json.loads(line) for line in found]


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["for people", "as JSON"])
async def test_a_tail_whose_reader_has_seen_enough_ends_well(
    kafka: Kafka, topics: Topics, variables: dict[str, str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    command = ("events", "tail", "--from", "beginning", *options)
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        await publisher.publish(OLD)
        process = await Fork.start(main, *command, environment=variables, out=pipe, err=NOWHERE)
        try:
            await until(partial(_read, reader), within=60, what="what was there")
            os.close(reader)
            await publisher.publish(NEW)
            assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            process.kill()


async def test_a_tail_shows_what_is_asked_for(
    kafka: Kafka, topics: Topics, variables: dict[str, str], tmp_path: Path
) -> None:
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        await publisher.publish(OLD)
        between = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        await publisher.publish(NEW)
    asked = {
        ("--from", "beginning"): [*OLD, *NEW],
        ("--from", between): NEW,
        ("--from", "beginning", "--user", str(ANN.id)): [OLD[0], NEW[0]],
        ("--from", "beginning", "--type", "erased", "--type", "muster.user.registered.v1"): [*OLD, NEW[1]],
    }
    shown = await asyncio.gather(
        *(
            tailed(variables, tmp_path / str(number), len(wanted), *options)
            for number, (options, wanted) in enumerate(asked.items())
        )
    )

    assert [{line["headers"]["ce_id"] for line in lines} for lines in shown] == [
        {ce_id(item) for item in wanted} for wanted in asked.values()
    ]


async def test_a_tail_from_now_shows_only_what_comes(
    kafka: Kafka, topics: Topics, variables: dict[str, str], tmp_path: Path
) -> None:
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        await publisher.publish(OLD)
        tail = asyncio.create_task(tailed(variables, tmp_path / "out", 1))

        async def shown() -> bool:
            await publisher.publish([record(UserSnapshot(user=ANN))])
            return tail.done()

        await until(shown, within=60, what="a snapshot to be shown")

    assert {line["headers"]["ce_type"] for line in await tail} == {"muster.user.snapshot.v1"}


async def test_an_event_is_found_by_its_id(kafka: Kafka, topics: Topics, variables: dict[str, str]) -> None:
    snapshot = record(UserSnapshot(user=MOVED))
    # A snapshot's id is a UUIDv8, in which there is no time.
    timeless = "6f1d0e4c-93ad-8b1e-9c3f-2a9d1f4b7e10"
    headers = [(name, timeless.encode() if name == "ce_id" else value) for name, value in snapshot.headers]
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        await publisher.publish([*OLD, *NEW, replace(snapshot, headers=headers)])

    moved, again, absent = await asyncio.gather(
        muster(variables, "events", "show", ce_id(NEW[0])),
        muster(variables, "events", "show", timeless, "--json"),
        muster(variables, "events", "show", str(new_id())),
    )

    assert moved.code == again.code == 0, (moved, again)
    assert "muster.user.email_changed.v1" in moved.out
    assert '"email": "new@example.com"' in moved.out
    assert json.loads(again.out)["headers"]["ce_type"] == "muster.user.snapshot.v1"
    assert absent.code == 1
    assert "has the ce_id" in absent.err
    assert "`muster events tail --from beginning --user ID`" in absent.err

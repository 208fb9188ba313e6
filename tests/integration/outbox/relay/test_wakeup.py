"""The wake-up: a command is published at once although the relay polls once a minute; its lost session comes back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from chassis.identifiers import new_id
from chassis.settings import PostgresAddress
from local_stack.ports import free_port
from outbox.notifier import DEBOUNCE_SECONDS, OUTBOX_CHANNEL, Notifier
from outbox.relay.wakeup import WakeUp
from outbox.settings import RelaySettings
from tests.integration.command_api.processes import api_process
from tests.integration.outbox.relaying import Gate, relaying, until_phase
from tests.integration.outbox.traffic import Connection, append, until_empty
from tests.waiting import until

#: A NOTIFY and a transaction take milliseconds; far below the poll, far above what a busy machine adds.
SOON_SECONDS = 1.5
#: How long commands keep asking for a NOTIFY.
ASKING_SECONDS = 0.3
MINUTE_MS = 60_000
LISTENERS = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'muster relay listener' AND datname = current_database() AND query LIKE 'LISTEN%'
"""


async def test_a_command_is_published_at_once_by_a_relay_that_polls_once_a_minute(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """Also when the listener's session was ended meanwhile."""
    settings = relay_settings.model_copy(update={"relay_idle_poll_ms": MINUTE_MS, "relay_hot_poll_ms": MINUTE_MS})
    async with api_process(settings.command_database) as api, relaying(settings) as relay:
        await until_phase(relay, "leading")
        first = await until_listening(connection)
        await register(api.url, 1)
        await until_empty(connection, within=SOON_SECONDS)

        await connection.execute("SELECT pg_terminate_backend($1)", first)
        await register(api.url, 2)
        await until_empty(connection, within=SOON_SECONDS)

        assert await until_listening(connection) != first
        await register(api.url, 3)
        await until_empty(connection, within=SOON_SECONDS)


async def test_what_was_heard_before_a_page_was_read_does_not_have_it_read_again(
    connection: Connection, relay_settings: RelaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = relay_settings.model_copy(update={"relay_idle_poll_ms": MINUTE_MS, "relay_hot_poll_ms": MINUTE_MS})
    gate, waits, heard, wait, wake = Gate("before_commit"), [], asyncio.Event(), WakeUp.wait, WakeUp.wake

    async def noted_wait(wakeup: WakeUp, seconds: float) -> None:
        waits.append(wakeup._heard.is_set())
        await wait(wakeup, seconds)

    def noted_wake(wakeup: WakeUp) -> None:
        wake(wakeup)
        heard.set()

    monkeypatch.setattr(WakeUp, "wait", noted_wait)
    monkeypatch.setattr(WakeUp, "wake", noted_wake)
    async with relaying(settings, failpoint=gate) as relay:
        await until_phase(relay, "leading")
        await until_listening(connection)
        await append(connection, new_id(), 1)
        await connection.execute(f"NOTIFY {OUTBOX_CHANNEL}")
        await asyncio.wait_for(gate.arrived.wait(), 10)
        heard.clear()
        await append(connection, new_id(), 1)
        await connection.execute(f"NOTIFY {OUTBOX_CHANNEL}")
        await asyncio.wait_for(heard.wait(), 10)
        waited = len(waits)
        gate.opened.set()

        async def waits_again() -> bool:
            return len(waits) > waited

        await until(waits_again, within=10, what="the relay has published both and waits")
        assert waits[waited:] == [False]
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_process_notifies_once_in_five_milliseconds_at_most_and_on_one_session_of_its_own(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    async with hearing(connection) as heard, Notifier.open(relay_settings.command_database) as notifier:
        began, asked = time.monotonic(), 0

        while time.monotonic() - began < ASKING_SECONDS:
            notifier.notify()
            asked += 1
            await asyncio.sleep(0)
        heard_enough = len(heard)
        took = time.monotonic() - began
        speaker = await connection.fetchval("SELECT application_name FROM pg_stat_activity WHERE pid = $1", heard[0])

    assert 2 <= heard_enough <= took / DEBOUNCE_SECONDS + 1 < asked
    assert (len(set(heard)), speaker) == (1, "muster notifier")


async def test_what_is_asked_for_while_the_notifier_rests_is_told_afterwards(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """Else the last command of a burst would wait for the poll."""
    async with hearing(connection) as heard, Notifier.open(relay_settings.command_database) as notifier:
        notifier.notify()

        async def one() -> bool:
            return len(heard) == 1

        await until(one, within=10, what="the first notification")
        notifier.notify()

        async def two() -> bool:
            return len(heard) == 2

        await until(two, within=10, what="the second notification")


async def test_a_database_that_is_away_is_told_of_once_by_each_side(relay_settings: RelaySettings) -> None:
    nobody = PostgresAddress(
        server="127.0.0.1", port=free_port(), user="muster", password=SecretStr("none"), database="none"
    )
    with capture_logs() as lines:
        async with WakeUp.open(nobody), Notifier.open(nobody) as notifier:
            notifier.notify()
            began = time.monotonic()

            async def tried_often() -> bool:
                # The pauses grow from 0.1 s: several tries by then.
                return time.monotonic() - began > 1

            await until(tried_often, within=10, what="several tries")

    assert sorted(line["event"] for line in lines) == ["outbox.listener_lost", "outbox.notify_failed"]


async def until_listening(connection: Connection) -> int:
    """Wait until a relay listens; gives its session's process id."""

    async def listener() -> int | None:
        pid: int | None = await connection.fetchval(LISTENERS)
        return pid

    pid = await until(listener, within=20, what="a relay that listens")
    assert pid is not None
    return pid


async def register(url: str, number: int) -> None:
    """A command: register a user."""
    document = {"email": f"u{number}@example.com", "username": f"user{number}", "password": "correct horse battery"}
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.post("/users", json=document)).status_code == 201


@asynccontextmanager
async def hearing(connection: Connection) -> AsyncIterator[list[int]]:
    """The process ids of the sessions that notify, one for each notification."""
    heard: list[int] = []

    def hear(_: Any, pid: int, *__: Any) -> None:
        heard.append(pid)

    await connection.add_listener(OUTBOX_CHANNEL, hear)
    try:
        yield heard
    finally:
        await connection.remove_listener(OUTBOX_CHANNEL, hear)

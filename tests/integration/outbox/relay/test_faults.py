"""What goes wrong in and around the relay, and what a read_committed consumer sees of it: nothing."""

import asyncio
from uuid import uuid4

import pytest

from outbox.publishing.page_marker import RelayStopError
from outbox.relay.leadership import Leadership, LeadershipLostError
from outbox.relay.loop import Relay
from outbox.settings import RelaySettings
from tests.integration.outbox.relay_process import relay_process
from tests.integration.outbox.relaying import Fault, Gate, relaying, until_phase
from tests.integration.outbox.traffic import Connection, append, append_many, consume, until_empty
from tests.waiting import until

POINTS = ["before_begin", "after_send", "before_commit", "before_delete", "after_delete"]


@pytest.mark.parametrize("point", POINTS)
async def test_an_error_at_any_point_loses_and_repeats_nothing(
    point: str, connection: Connection, relay_settings: RelaySettings
) -> None:
    users = [uuid4() for _ in range(20)]
    await append_many(connection, users, 5)
    fault = Fault(point)
    async with relaying(relay_settings, failpoint=fault):
        await until_empty(connection)

    assert fault.raised.is_set()
    assert (await consume(relay_settings)).versions() == {str(user): [1, 2, 3, 4, 5] for user in users}


async def test_kill_9_in_the_middle_of_5000_events_gives_each_exactly_once_and_in_order(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    users = [uuid4() for _ in range(100)]
    settings = relay_settings.model_copy(update={"relay_page_rows": 250})
    total = await append_many(connection, users, 50)
    for point in POINTS:
        async with relay_process(settings, point, 3) as process:
            assert await asyncio.wait_for(process.wait(), 60) == -9
    assert await connection.fetchval("SELECT count(*) FROM outbox") > 0
    async with relaying(settings):
        await until_empty(connection)

    assert total == 5000
    assert (await consume(settings)).versions() == {str(user): list(range(1, 51)) for user in users}
    everything = await consume(settings, "read_uncommitted")
    aborted = len(everything.records) - total
    assert aborted > 0, "the kills must hit transactions that hold data"


async def test_a_page_is_sent_while_the_one_before_is_deleted_and_committed_only_after_that(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """Its relay fails with one page committed and not deleted, and the next one sent: one is settled, one aborted."""
    users, commits = [uuid4() for _ in range(10)], 0
    second_sent, failed = asyncio.Event(), asyncio.Event()
    await append_many(connection, users, 3)

    async def fail(point: str) -> None:
        nonlocal commits
        commits += point == "before_commit"
        if commits == 2:
            second_sent.set()
        if point == "before_delete" and not failed.is_set():
            await second_sent.wait()
            failed.set()
            raise ConnectionResetError

    async with relaying(relay_settings.model_copy(update={"relay_page_rows": 10}), failpoint=fail):
        await until_empty(connection)

    assert (await consume(relay_settings)).versions() == {str(user): [1, 2, 3] for user in users}
    everything = await consume(relay_settings, "read_uncommitted")
    assert len(everything.records) == 30 + 10, "the second page was sent, aborted and sent again"


async def test_a_relay_that_lost_its_lock_unnoticed_is_fenced_once_and_stands_by(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """Two relays that each reconnect at once would fence each other for ever."""
    user = uuid4()
    gate = Gate("before_commit")
    async with relaying(relay_settings, failpoint=gate) as first:
        await append(connection, user, 1)
        await gate.arrived.wait()
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'muster relay lock%'"
            " AND datname = current_database()"
        )
        async with relaying(relay_settings) as second:
            await until_phase(second, "leading")
            gate.opened.set()
            await until_phase(first, "standby")
            await append(connection, user, 2)
            await until_empty(connection)

            assert second.state.phase == "leading"

    assert (await consume(relay_settings)).versions() == {str(user): [1, 2]}


async def test_a_lock_whose_session_nothing_keeps_awake_any_more_counts_as_lost(relay_settings: RelaySettings) -> None:
    """Even while the server still holds it: a relay that believed so would neither publish nor stand by."""
    leadership = await Leadership.open(relay_settings.command_database)
    try:
        assert await leadership.acquire()
        await leadership.prove()
        leadership.lost.set()

        with pytest.raises(LeadershipLostError):
            await leadership.prove()
    finally:
        await leadership.close()


async def test_the_relay_goes_on_after_its_connections_were_cut(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    user = uuid4()
    async with relaying(relay_settings) as relay:
        await append(connection, user, 1)
        await until_empty(connection)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'muster relay%' AND datname = current_database()"
        )
        await append(connection, user, 2)
        await until_empty(connection)
        await until_phase(relay, "leading")

    assert (await consume(relay_settings)).versions() == {str(user): [1, 2]}


async def test_everything_works_at_the_poll_interval_without_notify(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    user = uuid4()
    settings = relay_settings.model_copy(update={"relay_idle_poll_ms": 50})
    async with relaying(settings) as relay:
        await until_phase(relay, "leading")
        for version in range(1, 4):
            await append(connection, user, version)
            await until_empty(connection)

    assert (await consume(settings)).versions() == {str(user): [1, 2, 3]}


async def test_a_backlog_goes_out_in_pages_bounded_by_bytes(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    user, pages = uuid4(), []
    settings = relay_settings.model_copy(update={"relay_page_bytes": 250_000})
    for version in range(1, 13):
        await append(connection, user, version, b'{"x":"%b"}' % (b"x" * 100_000))

    async def count(point: str) -> None:
        if point == "after_delete":
            pages.append(await connection.fetchval("SELECT count(*) FROM outbox"))

    async with relaying(settings, failpoint=count):
        await until_empty_by(pages)

    assert pages == [9, 6, 3, 0]
    assert (await consume(settings)).versions() == {str(user): list(range(1, 13))}


async def until_empty_by(pages: list[int]) -> None:
    """Wait until the last page has left nothing."""

    async def nothing_left() -> bool:
        return bool(pages) and pages[-1] == 0

    await until(nothing_left, within=30, what="the last page")


async def test_a_record_of_another_database_stops_the_relay_with_the_facts_and_the_ways_out(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    await append(connection, uuid4(), 1)
    async with relaying(relay_settings):
        await until_empty(connection)
    await connection.execute("ALTER TABLE outbox ALTER COLUMN id RESTART WITH 1")
    await append(connection, uuid4(), 1)

    with pytest.raises(RelayStopError, match=r"restored from a backup.*RELAY_NAME"):
        await asyncio.wait_for(Relay(relay_settings).run(asyncio.Event()), 30)

    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1

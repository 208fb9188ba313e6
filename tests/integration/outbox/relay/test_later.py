"""PostgreSQL says "later" to any statement of the relay: it costs delay, and every event goes out once."""

from collections.abc import Awaitable
from uuid import uuid4

from chassis.postgres.errors import means_later
from outbox.damage import Examiner
from outbox.relay.backlog import read_backlog
from outbox.relay.division import hold_division
from outbox.relay.leadership import Leadership, LeadershipLostError
from outbox.relay.work_list import HeldRow, WorkList
from outbox.settings import RelaySettings
from tests.integration.outbox.relaying import relaying, until_phase
from tests.integration.outbox.traffic import Connection, append, consume, until_empty
from tests.servers.refusing_proxy import LATER, PREPARING, RefusingProxy, refuse_all
from tests.waiting import until


def behind(proxy: RefusingProxy, settings: RelaySettings) -> RelaySettings:
    address = proxy.address
    return settings.model_copy(
        update={"command_postgres_server": address.server, "command_postgres_port": address.port}
    )


async def test_whatever_means_later_at_whichever_statement_costs_delay_only(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """The whole relay: the loop does not ask which error it was, so here each statement gets one of them."""
    user = uuid4()
    async with RefusingProxy(relay_settings.command_database).listening() as proxy:

        async def refused() -> bool:
            return proxy.left is None

        # From the lock to the deletion of a page, and the next polls.
        for statement, state in enumerate(LATER, start=1):
            await append(connection, user, statement)
            proxy.refuse(statement, state)
            async with relaying(behind(proxy, relay_settings)) as relay:
                await until(refused, within=20, what=f"statement {statement}")
                await until_empty(connection)
                await until_phase(relay, "leading")
    assert (await consume(relay_settings)).versions() == {str(user): list(range(1, len(LATER) + 1))}


async def test_every_class_at_every_statement_is_an_error_that_the_loop_goes_on_after(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """Each of the relay's steps by itself, through a new connection: no class ends it, and none passes for success."""
    user, raised = uuid4(), 0
    async with RefusingProxy(relay_settings.command_database, PREPARING).listening() as proxy:
        settings = behind(proxy, relay_settings)
        await append(connection, user, 1)
        async with relaying(settings) as relay:
            await until_empty(connection)
            await until_phase(relay, "leading")
        really_run, proxy.texts = proxy.texts, set()
        await append(connection, user, 2)

        async def attempt() -> None:
            nonlocal raised
            error = await error_of(every_step(settings, connection))
            if error is not None:
                # A lock that cannot be proven any more is lost, and the relay stands by.
                cause = error.__cause__ if isinstance(error, LeadershipLostError) else error
                assert cause is not None
                assert means_later(cause)
                assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
                raised += 1

        statements = await refuse_all(proxy, attempt)
    assert raised == statements * len(LATER)
    assert {text for text in really_run if not text.startswith("LISTEN")} <= proxy.texts
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def error_of(work: Awaitable[None]) -> Exception | None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - it is judged by the caller
        return error
    return None


async def every_step(settings: RelaySettings, connection: Connection) -> None:
    """What a relay asks while it leads, from the lock to the deletion of a row that was held once."""
    leadership = await Leadership.open(settings.command_database)
    try:
        assert await leadership.acquire()
        await leadership.prove()
        await leadership._ask("SELECT 1")
        await hold_division(settings)
        work_list = await WorkList.open(
            settings.command_database, page_rows=10, page_bytes=1_000_000, examiner=Examiner()
        )
        try:
            await work_list.identity()
            [row] = await connection.fetch("SELECT id, subject_id FROM outbox")
            await work_list.mark(HeldRow(row["id"], row["subject_id"], "its headers are no headers"))
            work_list._sweep_due = 0.0
            ids = [one["id"] for one in await work_list.page()]
            await work_list.find(ids)
            await read_backlog(work_list._connection)
            await work_list.delete(ids)
        finally:
            await work_list.close()
    finally:
        await leadership.close()

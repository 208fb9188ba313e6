"""PostgreSQL says "later" to any statement of the relay: it costs delay, and every event goes out once."""

from uuid import uuid4

from outbox.settings import RelaySettings
from tests.integration.outbox.relaying import relaying, until_phase
from tests.integration.outbox.traffic import Connection, append, consume, until_empty
from tests.refusing_proxy import LATER, RefusingProxy
from tests.waiting import until


async def test_whatever_means_later_at_whichever_statement_costs_delay_only(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """What the relay does about an error does not depend on its code, so each statement gets one of them."""
    user = uuid4()
    async with RefusingProxy(relay_settings.command_database).listening() as proxy:
        settings = relay_settings.model_copy(
            update={"command_postgres_server": proxy.address.server, "command_postgres_port": proxy.address.port}
        )

        async def refused() -> bool:
            return proxy.left is None

        # From the lock to the deletion of a page, and the next poll.
        for statement, state in enumerate(LATER, start=1):
            await append(connection, user, statement)
            proxy.refuse(statement, state)
            async with relaying(settings) as relay:
                await until(refused, within=20, what=f"statement {statement}")
                await until_empty(connection)
                await until_phase(relay, "leading")
    assert (await consume(relay_settings)).versions() == {str(user): list(range(1, len(LATER) + 1))}

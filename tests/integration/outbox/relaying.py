"""Running a relay inside a test, and holding it at a named point of its work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.postgres.roles import RELAY
from chassis.settings import Kafka, PostgresAddress, Topics
from outbox.relay.loop import Relay
from outbox.settings import RelaySettings
from tests.databases import as_role
from tests.waiting import until

STOP_SECONDS = 20


class Gate:
    """A failpoint that holds the relay: `reached` is set when it arrives, `opened` lets it go on."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.arrived = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, point: str) -> None:
        if point == self.point:
            self.arrived.set()
            await self.opened.wait()


class Fault:
    """A failpoint that raises once when the relay arrives at it."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.raised = asyncio.Event()

    async def __call__(self, point: str) -> None:
        if point == self.point and not self.raised.is_set():
            self.raised.set()
            raise ConnectionResetError(f"injected at {point}")


def settings_for(database: PostgresAddress, kafka: Kafka, topics: Topics, **changes: object) -> RelaySettings:
    """A relay's settings for one database, one broker and its topics; `changes` by field."""
    database = as_role(database, RELAY)
    return RelaySettings.model_construct(
        **topics.model_dump(),
        **kafka.model_dump(),
        command_postgres_server=database.server,
        command_postgres_port=database.port,
        command_postgres_user=database.user,
        command_postgres_password=database.password,
        command_postgres_db=database.database,
    ).model_copy(update=changes)


@asynccontextmanager
async def relaying(settings: RelaySettings, **arguments: object) -> AsyncIterator[Relay]:
    """A relay that runs until the block ends."""
    relay = Relay(settings, **arguments)  # type: ignore[arg-type]
    stopping = asyncio.Event()
    task = asyncio.create_task(relay.run(stopping))
    try:
        yield relay
    finally:
        stopping.set()
        await asyncio.wait_for(task, STOP_SECONDS)


async def until_phase(relay: Relay, phase: str) -> None:
    """Wait until the relay is in a phase."""

    async def there() -> bool:
        return relay.state.phase == phase

    await until(there, within=20, what=f"the relay to be {phase}")

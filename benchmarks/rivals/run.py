"""The rivals, each beside ours in the same minutes. One that cannot be had is said on the page, with the reason."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import asyncpg
import httpx

from benchmarks.references.kafka_connect import outbox
from benchmarks.reporting.result import Result
from benchmarks.rivals import lists, rebuilds, relays
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import NoFigureError
from benchmarks.running.servers import open_servers
from local_stack.errors import LocalStackError

Part = Callable[[Plan, Result], Awaitable[None]]


async def run(plan: Plan) -> Result:
    """Measure beside each rival that can be had."""
    result = Result("Rivals")
    await run_parts(plan, result, RIVALS)
    return result


async def run_parts(plan: Plan, result: Result, parts: Mapping[str, Part]) -> None:
    """Run one after the other; say of each that cannot be had why."""
    for name, part in parts.items():
        try:
            await part(plan, result)
        # Only rivals are asked by httpx.
        except (LocalStackError, NoFigureError, ImportError, httpx.HTTPError) as error:
            reason = str(error).rstrip(".") or type(error).__name__
            plan.say(f"{name}: {reason}")
            result.note(f"{name} was not measured here, or not to its end: {reason}.")


async def pgstream(plan: Plan, _: Result) -> None:
    """Say why pgstream, a relay in Go, is not run: it decodes by wal2json.

    Raises:
        NoFigureError: always; the message is PostgreSQL's own.
    """
    async with (
        open_servers(plan, kafka=False, postgres_settings={"wal_level": "logical"}) as servers,
        servers.session("command") as connection,
    ):
        try:
            await outbox.make_slot(connection, "wal2json")
        except asyncpg.PostgresError as error:
            raise NoFigureError(f"it reads by wal2json, and this PostgreSQL says: {error}") from error
    raise NoFigureError("this PostgreSQL has wal2json by now: build pgstream and measure it")


RIVALS: Final[dict[str, Part]] = {
    "Kafka Connect with Debezium": relays.measure,
    "The library eventsourcing": rebuilds.measure,
    "Keycloak": lists.measure,
    "pgstream": pgstream,
}

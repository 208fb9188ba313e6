"""The checks of `muster doctor`: each looks at one thing and says what it found and what to do.

A check that cannot look (its server is down, its settings are missing) has failed itself; the others go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import asyncpg

from chassis.database import INFRASTRUCTURE_ERRORS, connect, describe, disconnect
from chassis.kafka import INFRASTRUCTURE_ERRORS as KAFKA_ERRORS
from chassis.kafka import Topic, admin, partition_counts, topic_configs
from chassis.migrations import current_and_head
from chassis.settings import PostgresAddress, Settings, SettingsError, load
from command_api import migrate as command_migrate
from command_api.settings import CommandApiSettings
from outbox.settings import RelaySettings
from outbox.topics import wanted_topics
from projectors import migrate as query_migrate
from projectors.settings import ProjectorSettings
from query_api.settings import QueryApiSettings

Result = Literal["ok", "warning", "failed"]

#: A relay and each projector hold a few connections beside the pools: lock, listener, work list; consumers.
OTHER_CONNECTIONS: Final = 10
#: Clocks further apart than this make event times and As-Of confusing.
CLOCK_WARNING_SECONDS: Final = 1.0
CLOCK_FAILURE_SECONDS: Final = 30.0
#: Version of PostgreSQL from which everything used here exists.
POSTGRES_VERSION: Final = 160000


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; a remedy where something is to be done."""

    check: str
    result: Result
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """For --json."""
        return asdict(self)


_PROCESSES: Final[tuple[tuple[str, type[Settings]], ...]] = (
    ("command API", CommandApiSettings),
    ("query API", QueryApiSettings),
    ("relay", RelaySettings),
    ("projectors", ProjectorSettings),
)


async def examine() -> list[Finding]:
    """Every finding, in the order in which one would mend them."""
    findings: list[Finding] = []
    loaded: dict[str, Any] = {}
    for name, kind in _PROCESSES:
        try:
            loaded[name] = load(kind)
            findings.append(Finding(f"settings: {name}", "ok", "complete"))
        except SettingsError as error:
            findings.append(Finding(f"settings: {name}", "failed", "; ".join(error.lines), "set them"))
    for checks in await asyncio.gather(*(check() for check in _plan(loaded))):
        findings.extend(checks)
    return findings


def _plan(loaded: dict[str, Any]) -> Iterable[Callable[[], Awaitable[list[Finding]]]]:
    command, query, relay = loaded.get("command API"), loaded.get("query API"), loaded.get("relay")
    if command:
        budget = command.command_database
        yield lambda: _database("command", budget, command_migrate.LOCATION, command.workers)
    if query:
        yield lambda: _database("query", query.query_database, query_migrate.LOCATION, query.workers)
    if relay:
        yield lambda: _kafka(relay)


async def _database(name: str, address: PostgresAddress, location: str, workers: int) -> list[Finding]:
    try:
        connection = await connect(address, application="muster doctor")
    except INFRASTRUCTURE_ERRORS as error:
        remedy = "start PostgreSQL there, or correct the POSTGRES settings"
        return [Finding(f"{name} database", "failed", f"{address}: {describe(error)}", remedy)]
    try:
        return [
            await _server(name, address, connection),
            *await _durability(name, connection),
            await _budget(name, address, connection, workers),
            await _clock(name, connection),
            await asyncio.to_thread(_migrations, name, address, location),
        ]
    finally:
        await disconnect(connection)


async def _server(name: str, address: PostgresAddress, connection: asyncpg.Connection[Any]) -> Finding:
    number = int(await connection.fetchval("SHOW server_version_num"))
    found = f"{address}, PostgreSQL {await connection.fetchval('SHOW server_version')}"
    if number < POSTGRES_VERSION:
        return Finding(f"{name} database", "failed", found, "run PostgreSQL 16 or newer")
    return Finding(f"{name} database", "ok", found)


async def _durability(name: str, connection: asyncpg.Connection[Any]) -> list[Finding]:
    check = f"{name} durability"
    findings = [
        Finding(check, "failed", f"{setting} is off", f"set {setting}=on: a crash loses or corrupts what was committed")
        for setting in ("fsync", "full_page_writes")
        if await connection.fetchval("SELECT current_setting($1)", setting) == "off"
    ]
    return findings or [Finding(check, "ok", "fsync and full_page_writes are on")]


async def _budget(name: str, address: PostgresAddress, connection: asyncpg.Connection[Any], workers: int) -> Finding:
    available = int(await connection.fetchval("SHOW max_connections"))
    wanted = workers * (address.pool_size + address.max_overflow) + OTHER_CONNECTIONS
    found = f"{workers} workers may open {wanted} of {available} connections"
    if wanted > available:
        return Finding(
            f"{name} connections", "failed", found, "lower WORKERS or the pool sizes, or raise max_connections"
        )
    return Finding(f"{name} connections", "ok", found)


async def _clock(name: str, connection: asyncpg.Connection[Any]) -> Finding:
    before = time.time()
    there: datetime = await connection.fetchval("SELECT clock_timestamp()")
    here = datetime.fromtimestamp((before + time.time()) / 2, UTC)
    apart = abs((there - here).total_seconds())
    result: Result = "ok" if apart < CLOCK_WARNING_SECONDS else "warning" if apart < CLOCK_FAILURE_SECONDS else "failed"
    return Finding(
        f"{name} clock", result, f"{apart:.3f} s apart", "" if result == "ok" else "synchronise both with NTP"
    )


def _migrations(name: str, address: PostgresAddress, location: str) -> Finding:
    current, head = current_and_head(location, address)
    check = f"{name} migrations"
    if current != head:
        return Finding(
            check, "failed", f"at {current or 'nothing'}, this version needs {head}", f"muster migrate {name}"
        )
    return Finding(check, "ok", f"at {head}")


async def _kafka(settings: RelaySettings) -> list[Finding]:
    where = settings.kafka_bootstrap_servers
    wanted = wanted_topics(settings)
    try:
        async with admin(settings) as client:
            existing = await partition_counts(client, [topic.name for topic in wanted])
            configs = await topic_configs(client, list(existing))
    except KAFKA_ERRORS as error:
        return [Finding("Kafka", "failed", f"{where}: {describe(error)}", "start Kafka there, or correct KAFKA_*")]
    return [Finding("Kafka", "ok", where), *(_topic(topic, existing, configs) for topic in wanted)]


def _topic(topic: Topic, existing: dict[str, int], configs: dict[str, dict[str, str]]) -> Finding:
    check = f"topic {topic.name}"
    if topic.name not in existing:
        return Finding(check, "failed", "is not there", "muster topics")
    if existing[topic.name] != topic.partitions:
        remedy = f"set TOPIC_PARTITIONS={existing[topic.name]}; the count of a topic in use never changes"
        return Finding(check, "failed", f"{existing[topic.name]} partitions, not {topic.partitions}", remedy)
    found = configs.get(topic.name, {})
    wrong = [
        f"{key}={found.get(key)} (should be {value})" for key, value in topic.configs.items() if found.get(key) != value
    ]
    if wrong:
        return Finding(check, "failed", ", ".join(wrong), "muster topics")
    return Finding(check, "ok", f"{topic.partitions} partitions, configured as the settings say")

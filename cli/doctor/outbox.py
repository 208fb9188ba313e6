"""The checks of the outbox's rows: one that cannot be published, and those that somebody has set aside."""

from __future__ import annotations

from typing import Final

import asyncpg

from chassis.postgres.database import NO_CONNECTION, connect, describe, disconnect
from chassis.settings import PostgresAddress
from cli.doctor.findings import Finding, troubles_or_ok

_NAMED: Final = "SELECT id, subject_id, damage FROM outbox WHERE damage IS NOT NULL ORDER BY id"
#: Nobody sets so many aside one by one.
_SET_ASIDE: Final = "SELECT id, subject_id, damage, set_aside_at FROM outbox_set_aside ORDER BY id LIMIT 100"


async def examine_outbox(address: PostgresAddress) -> list[Finding]:
    """A failure for each row that holds everything up, a warning for each that is set aside."""
    try:
        connection = await connect(address, application="muster doctor")
        try:
            named, aside = await connection.fetch(_NAMED), await connection.fetch(_SET_ASIDE)
        finally:
            await disconnect(connection)
    except NO_CONNECTION as error:
        return [Finding("outbox", "failed", f"unknown: {describe(error)}", "see the findings of the command database")]
    troubles = [*map(_held_up, named), *map(_waits, aside)]
    return troubles_or_ok("outbox", troubles, "no row is damaged or set aside")


def _held_up(row: asyncpg.Record) -> Finding:
    number = row["id"]
    found = (
        f"row {number}, an event of {row['subject_id'] or 'nobody'}, holds up whatever comes after it: {row['damage']}"
    )
    return Finding("outbox", "failed", found, f"muster outbox show {number}, then muster outbox set-aside {number}")


def _waits(row: asyncpg.Record) -> Finding:
    number = row["id"]
    found = (
        f"row {number} is set aside since {row['set_aside_at']:%F %T} UTC ({row['damage']}), and later events of"
        f" {row['subject_id']} wait for it"
    )
    return Finding("outbox", "warning", found, f"muster outbox put-back {number}, or muster outbox drop {number}")

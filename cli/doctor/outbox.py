"""The checks of the outbox's rows: one that cannot be published, and those that somebody has set aside."""

from __future__ import annotations

import asyncpg

from chassis.postgres.database import NO_CONNECTION, describe, session
from chassis.settings import PostgresAddress
from cli.doctor.findings import Finding, troubles_or_ok
from outbox.set_aside import held_rows


async def examine_outbox(address: PostgresAddress) -> list[Finding]:
    """Return a failure for each row that holds everything up, and a warning for each that is set aside."""
    try:
        async with session(address, application="muster doctor") as connection:
            held = await held_rows(connection)
    except NO_CONNECTION as error:
        return [Finding("outbox", "failed", f"unknown: {describe(error)}", "see the findings of the command database")]
    # What holds everything up comes first.
    held.sort(key=lambda row: row["set_aside_at"] is not None)
    troubles = [_held_up(row) if row["set_aside_at"] is None else _waits(row) for row in held]
    return troubles_or_ok("outbox", troubles, "no row is damaged or set aside")


def _held_up(row: asyncpg.Record) -> Finding:
    number = row["id"]
    found = (
        f"row {number}, an event of {row['subject_id'] or 'nobody'}, holds up whatever comes after it: {row['damage']}"
    )
    remedy = f"`muster outbox show {number}`, then `muster outbox set-aside {number}`"
    return Finding("outbox", "failed", found, remedy)


def _waits(row: asyncpg.Record) -> Finding:
    number = row["id"]
    found = (
        f"row {number} is set aside since {row['set_aside_at']:%F %T} UTC ({row['damage']}), and later events of"
        f" {row['subject_id']} wait for it"
    )
    remedy = f"`muster outbox put-back {number}`, or `muster outbox drop {number}`"
    return Finding("outbox", "warning", found, remedy)

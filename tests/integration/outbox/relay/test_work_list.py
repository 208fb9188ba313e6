"""A page costs about a page, however much stands behind it."""

import json
from typing import Any
from uuid import uuid4

import pytest

from outbox.relay import work_list
from outbox.settings import RelaySettings
from tests.integration.outbox.traffic import Connection, append, append_many
from tests.plans import rows_looked_at

PAGE_ROWS = 500


async def blocks_of_a_page(connection: Connection, *, floor: int = 0, flying: list[int] | None = None) -> int:
    """How many blocks of the database the server touches to give one page."""
    await connection.execute("ANALYZE outbox")
    answer = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {work_list._PAGE}",
        floor,
        PAGE_ROWS + len(flying or []),
        flying or [],
        4 * 1024 * 1024,
        PAGE_ROWS,
    )
    plan: dict[str, Any] = json.loads(answer)[0]["Plan"]
    assert plan["Actual Rows"] == PAGE_ROWS
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("in_flight", [0, PAGE_ROWS])
async def test_a_page_touches_no_more_blocks_in_front_of_a_hundred_times_as_many_rows(
    connection: Connection, in_flight: int
) -> None:
    users = [uuid4() for _ in range(1000)]
    await append_many(connection, users, 2)
    flying = [row["id"] for row in await connection.fetch("SELECT id FROM outbox ORDER BY id LIMIT $1", in_flight)]
    shallow = await blocks_of_a_page(connection, flying=flying)
    await append_many(connection, users, 198)

    deep = await blocks_of_a_page(connection, flying=flying)

    assert await connection.fetchval("SELECT count(*) FROM outbox") == 200_000
    assert deep <= shallow + 5, "the index is a level deeper, no more"


async def test_a_page_above_the_floor_does_not_step_over_what_was_deleted_under_a_held_snapshot(
    connection: Connection, other: Connection
) -> None:
    await append_many(connection, [uuid4() for _ in range(1000)], 52)
    fresh = await blocks_of_a_page(connection)
    async with other.transaction(isolation="repeatable_read", readonly=True):
        await other.fetchval("SELECT count(*) FROM outbox")
        floor = await connection.fetchval("SELECT id FROM outbox ORDER BY id OFFSET 49999 LIMIT 1")
        await connection.execute("DELETE FROM outbox WHERE id <= $1", floor)
        await connection.execute("VACUUM outbox")

        assert await blocks_of_a_page(connection, floor=floor) <= fresh + 5
        assert await blocks_of_a_page(connection, floor=0) > 10 * fresh


async def test_a_row_is_found_whose_transaction_took_its_xid_last_and_its_id_first(
    connection: Connection, other: Connection, relay_settings: RelaySettings
) -> None:
    late, early = uuid4(), uuid4()
    pages = await work_list.WorkList.open(relay_settings.command_database, page_rows=1, page_bytes=1024 * 1024)
    try:
        async with other.transaction():
            await other.fetchval("SELECT pg_current_xact_id()")
            transaction = connection.transaction()
            await transaction.start()
            lower = await append(connection, late, 1)
            seen = [await append(other, early, version) for version in (1, 2, 3)]
        # Read ahead, as in a backlog: nothing is deleted yet, and three snapshots are taken.
        ahead = [row["id"] for flying in range(3) for row in await pages.page(seen[:flying])]
        await transaction.commit()
        found = [row["id"] for row in await pages.page(seen)]
    finally:
        await pages.close()

    assert lower < seen[0]
    assert (ahead, found) == (seen, [lower])


#: The statements of which the relay keeps one plan each: text, and types of what is given.
KEPT = {
    "page": (work_list._PAGE, "bigint, bigint, bigint[], bigint, bigint"),
    "find": (work_list._FIND, "bigint[]"),
    "delete": (work_list._DELETE, "bigint[]"),
}


def _executions(flying: list[int]) -> list[str]:
    ids = f"'{{{','.join(map(str, flying))}}}'"
    page = f"EXECUTE page(0, {PAGE_ROWS + len(flying)}, {ids}, {4 * 1024 * 1024}, {PAGE_ROWS})"
    return [page, f"EXECUTE find({ids})", f"EXECUTE delete({ids})"]


@pytest.mark.parametrize("rows", [0, 3])
async def test_a_backlog_costs_no_more_where_all_was_planned_while_there_was_none(
    connection: Connection, relay_settings: RelaySettings, rows: int
) -> None:
    await append_many(connection, [uuid4()], rows)
    await connection.execute("VACUUM ANALYZE outbox")
    pages = await work_list.WorkList.open(relay_settings.command_database, page_rows=PAGE_ROWS, page_bytes=1)
    relay = pages._connection
    try:
        for name, (text, types) in KEPT.items():
            await relay.execute(f"PREPARE {name} ({types}) AS {text}")
        # Left alone, PostgreSQL makes the plan that it keeps at the sixth time.
        for each in 6 * _executions([0]):
            await relay.execute(each)
        await append_many(connection, [uuid4() for _ in range(1000)], 20)
        flying = [row["id"] for row in await connection.fetch("SELECT id FROM outbox ORDER BY id LIMIT $1", PAGE_ROWS)]

        for each in _executions(flying):
            answer = await relay.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {each}")
            assert rows_looked_at(json.loads(answer)[0]["Plan"]) <= 12 * PAGE_ROWS, each
    finally:
        await pages.close()

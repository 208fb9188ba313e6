"""`muster outbox` as an operator calls it: what it prints, its exit codes, and doctor's words meanwhile."""

import json
import re
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from cli.doctor.outbox import examine_outbox
from console.overview.observation import Outbox
from console.overview.verdict import findings
from tests.integration.muster_processes import environment, muster
from tests.integration.outbox.traffic import append
from tests.unit.console.test_overview import EMPTY, LEADER, WELL


@pytest.fixture
def variables(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> dict[str, str]:
    """The environment of an operator."""
    return environment(kafka, topics, command_database, query_database)


async def test_a_damaged_row_is_shown_set_aside_and_put_back_and_doctor_knows(
    variables: dict[str, str], command_database: PostgresAddress
) -> None:
    user = uuid4()
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        number = await append(connection, user, 1)
        await append(connection, user, 2)
        await connection.execute("UPDATE outbox SET damage = 'its value is null', value = NULL WHERE id = $1", number)
    finally:
        await connection.close()
    row = str(number)

    [held] = await examine_outbox(command_database)
    assert (held.result, f"row {row}" in held.found, str(user) in held.found) == ("failed", True, True)
    assert "its value is null" in held.found
    shown = json.loads((await muster(variables, "outbox", "show", row, "--json")).out)
    assert (shown["user_id"], shown["damage"], shown["events_behind"]) == (str(user), "its value is null", 1)
    assert ["ce_subject", str(user)] in shown["headers"]

    aside = await muster(variables, "outbox", "set-aside", row)
    assert (aside.code, f"put-back {row}" in aside.out) == (0, True)
    [waiting] = await examine_outbox(command_database)
    assert (waiting.result, f"muster outbox drop {row}" in waiting.remedy) == ("warning", True)
    # What the console advises, which knows their number alone.
    [headline] = findings(replace(WELL, outbox=Outbox(replace(EMPTY, set_aside=1), LEADER)))
    [command] = re.findall(r"`muster ([^`]+)`", headline.why)
    listed = await muster(variables, *command.split())
    assert (listed.code, row in listed.out, "its value is null" in listed.out) == (0, True, True)
    [document] = json.loads((await muster(variables, *command.split(), "--json")).out)
    assert (document["id"], document["user_id"], document["set_aside_at"] is None) == (number, str(user), False)

    assert (await muster(variables, "outbox", "put-back", row)).code == 0
    [ok] = await examine_outbox(command_database)
    assert ok.result == "ok"
    assert (await muster(variables, "outbox", "show")).out == "No row is damaged or set aside.\n"
    refused = await muster(variables, "outbox", "drop", row)
    assert refused.code == 1
    assert f"muster outbox set-aside {row}" in refused.err

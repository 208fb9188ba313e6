"""Of lines that meet each other, or somebody who is there: which of them are registered."""

import asyncio
from unittest.mock import ANY

import httpx
import pytest

from chassis.identifiers import new_id
from tests.integration.command_api.conftest import Connection, registration, until_somebody_waits
from tests.integration.command_api.imports.sent_lines import line, send
from tests.issuing import bearer


async def test_of_several_lines_with_one_address_the_first_is_registered(api: httpx.AsyncClient) -> None:
    lines = [line(f"user{number:02}", email=f"ann{number % 3}@example.com") for number in range(60)]

    results = await send(api, *lines)

    assert [result["line"] for result in results if result.get("status") == "created"] == [1, 2, 3]


async def test_of_one_address_the_first_line_is_registered_though_its_password_is_hashed_last(
    api: httpx.AsyncClient,
) -> None:
    results = await send(api, registration("ann"), line("bob", email="ann@example.com"), line("eve"))

    assert [result["status"] for result in results[:3]] == ["created", "failed", "created"]


async def test_the_order_of_lines_decides_for_names_as_for_addresses(api: httpx.AsyncClient) -> None:
    await send(api, line("taken"))
    lines = [
        line("zoe", username="one"),
        line("zoe", username="two"),
        line("ann", username="one"),
        # What a refused line wanted is free for the next.
        line("taken", username="three"),
        line("bob", username="three"),
        line("eve", username="two"),
    ]

    results = await send(api, *lines)

    assert [result["status"] for result in results[:-1]] == [
        *("created", "failed", "failed", "failed", "created", "created")
    ]
    refused = [result["problem"]["type"] for result in results[:-1] if result["status"] == "failed"]
    assert refused == ["/problems/email-taken", "/problems/username-taken", "/problems/email-taken"]


async def test_an_id_whose_first_line_is_refused_is_the_next_lines(api: httpx.AsyncClient) -> None:
    id_ = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a"
    await send(api, line("taken"))

    results = await send(
        api, line("taken", id=id_), line("ann", id=id_), line("ann", username="other"), line("b", id=id_)
    )

    assert [result["status"] for result in results[:3]] == ["failed", "created", "failed"]


@pytest.mark.parametrize("form", ["{%s}", "urn:uuid:%s", "dashless"])
async def test_an_id_has_one_form(api: httpx.AsyncClient, form: str) -> None:
    id_ = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a"
    other = id_.replace("-", "") if form == "dashless" else form % id_

    [result, _] = await send(api, line("ann", id=other))
    answer = await api.put(f"/users/{other}/username", json={"username": "zoe"})

    assert result["problem"]["errors"] == [{"detail": ANY, "pointer": "#/id"}]
    assert answer.status_code == 422
    assert "must be a UUID such as" in answer.text


async def test_a_repeated_import_with_ids_changes_nothing(api: httpx.AsyncClient, database: Connection) -> None:
    lines = [line(f"user{number}", id=str(new_id())) for number in range(300)]
    first = await send(api, *lines)
    await api.put(f"/users/{lines[0]['id']}/username", json={"username": "moved-on"})

    again = await send(api, *lines)

    assert first[-1]["created"] == 300
    assert again[-1] == {"complete": True, "created": 0, "unchanged": 300, "failed": 0}
    assert [result["id"] for result in again[:-1]] == [item["id"] for item in lines]
    assert await database.fetchval("SELECT count(*) FROM outbox") == 301


async def test_the_same_id_twice_in_one_import_is_unchanged_the_second_time(
    api: httpx.AsyncClient, database: Connection
) -> None:
    identifier = str(new_id())

    results = await send(api, line("ann", id=identifier), line("bob", id=identifier))

    assert [result["status"] for result in results[:2]] == ["created", "unchanged"]
    assert await database.fetchval("SELECT username FROM users") == "ann"
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1


async def test_of_one_id_the_first_line_counts_though_its_password_is_hashed_last(
    api: httpx.AsyncClient, database: Connection
) -> None:
    identifier = str(new_id())

    results = await send(api, registration("ann") | {"id": identifier}, line("bob", id=identifier), line("eve"))

    assert [result["status"] for result in results[:3]] == ["created", "unchanged", "created"]
    assert [row["username"] for row in await database.fetch("SELECT username FROM users ORDER BY 1")] == ["ann", "eve"]


async def test_an_erased_person_does_not_come_back(api: httpx.AsyncClient, database: Connection) -> None:
    identifier = str(new_id())
    await send(api, line("ann", id=identifier))
    await api.delete(f"/users/{identifier}")

    [result, _] = await send(api, line("ann", id=identifier))

    assert (result["status"], result["problem"]["type"]) == ("failed", "/problems/user-erased")
    assert "leave the id out" in result["problem"]["detail"]
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_an_erasure_that_commits_while_the_import_waits_keeps_the_person_erased(
    api: httpx.AsyncClient, database: Connection
) -> None:
    identifier = str(new_id())
    await send(api, line("ann", id=identifier))
    transaction = database.transaction()
    await transaction.start()
    await database.execute("DELETE FROM users")
    again = asyncio.create_task(send(api, line("ann", id=identifier), line("bob")))
    await until_somebody_waits(database)
    await database.execute("INSERT INTO erased_users VALUES ($1, 2, now())", identifier)
    await transaction.commit()

    results = await again

    assert [result["status"] for result in results[:2]] == ["failed", "created"]
    assert [row["username"] for row in await database.fetch("SELECT username FROM users")] == ["bob"]


async def test_two_imports_of_the_same_people_crosswise_both_end(api: httpx.AsyncClient, database: Connection) -> None:
    people = [line(f"user{number:03}") for number in range(200)]
    renamed = [{**person, "username": people[-1 - index]["username"]} for index, person in enumerate(people)]

    one, other = bearer("one"), bearer("other")  # each may have one import at a time
    both = await asyncio.gather(send(api, *people, caller=one), send(api, *reversed(renamed), caller=other))

    assert sum(results[-1]["created"] for results in both) == await database.fetchval("SELECT count(*) FROM users")
    assert await database.fetchval("SELECT count(*) FROM outbox") == await database.fetchval(
        "SELECT count(*) FROM users"
    )

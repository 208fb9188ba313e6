"""`muster audit` lists every user whose read side differs, and says in which way."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

import cli.operations.audit_comparison as auditing
from chassis.identifiers import new_id
from chassis.postgres.database import Database
from cli.operations.audit_comparison import Audit, DifferenceKind, UserDifference
from command_api.users.rows import COLUMNS, user_row
from events.user_events import PublicUser, UserErased, UserRegistered
from projectors.projections.users import UsersWriter
from tests.integration.projectors.folds import changes_of
from tests.integration.projectors.stream import START, new_user, record


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of a few users, and no waiting for events that nobody publishes."""
    monkeypatch.setattr(auditing, "RANGE_USERS", 7)
    monkeypatch.setattr(auditing, "LOOK_SECONDS", 0.01)


async def in_command(database: Database, users: Sequence[PublicUser], erased: Sequence[tuple[UUID, int]] = ()) -> None:
    async with database.connection() as connection:
        for user in users:
            # Spaced, as nobody stores attributes, for the spelling of both sides may differ.
            row = dict(zip(COLUMNS, user_row(user, new_id(), "x"), strict=True))
            row["attributes"] = json.dumps(user.attributes, indent=1)
            marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
            await connection.execute(f"INSERT INTO users ({', '.join(row)}) VALUES ({marks})", *row.values())
        for user_id, version in erased:
            await connection.execute("INSERT INTO erased_users VALUES ($1, $2, now())", user_id, version)


async def in_query(database: Database, users: Sequence[PublicUser], erased: Sequence[tuple[UUID, int]] = ()) -> None:
    events = [record(UserRegistered(user=user)) for user in users]
    events += [record(UserErased(user_id, version)) for user_id, version in erased]
    async with database.connection() as connection:
        await UsersWriter(1).apply(connection, changes_of(events))


async def differences(command: Database, query: Database) -> tuple[int, list[UserDifference]]:
    compared, found = 0, []
    async for count, some in (await Audit.with_serving(command, query)).walk():
        compared += count
        found += some
    return compared, found


async def test_equal_sides_have_no_difference(command: Database, database: Database) -> None:
    users = [
        new_user(number).model_copy(update={"attributes": {"b": 1, "a": [None, "ü"]}, "username": f"Straße{number}"})
        for number in range(30)
    ]
    gone = (new_id(), 4)
    await in_command(command, users, [gone])
    await in_query(database, users, [gone])
    assert await differences(command, database) == (31, [])


@pytest.mark.parametrize("side", ["command", "query"])
async def test_no_range_is_larger_on_either_side_however_much_only_one_of_them_knows(
    command: Database, database: Database, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, gone = [new_user(number) for number in range(40)], [(new_id(), 2) for _ in range(20)]
    if side == "command":
        await in_command(command, users, gone)
    else:
        await in_query(database, users, gone)
    fetched: list[int] = []
    original = Audit._rows

    async def rows(comparison: Audit, *arguments: Any) -> dict[UUID, Any]:
        found = await original(comparison, *arguments)
        fetched.append(len(found))
        return found

    monkeypatch.setattr(Audit, "_rows", rows)
    monkeypatch.setattr(auditing, "LOOKS", 1)
    _, found = await differences(command, database)
    assert len(found) == 40, "of the erased whom one side does not know, nobody is shown"
    assert max(fetched) == auditing.RANGE_USERS


async def test_those_of_several_ranges_who_differ_are_waited_for_together(
    command: Database, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_command(command, [new_user(number) for number in range(40)])
    together: list[int] = []
    original = Audit._confirm

    async def confirm(comparison: Audit, suspects: Sequence[UUID]) -> list[UserDifference]:
        together.append(len(suspects))
        return await original(comparison, suspects)

    monkeypatch.setattr(Audit, "_confirm", confirm)
    monkeypatch.setattr(auditing, "SUSPECTS_TOGETHER", 20)
    compared, found = await differences(command, database)
    assert (compared, len(found)) == (40, 40)
    assert together == [21, 19], "three ranges of seven, and the rest"


async def test_each_way_to_differ_is_told_apart(command: Database, database: Database) -> None:
    users = [new_user(number) for number in range(40)]
    missing, stale, ahead, unknown, altered, unerased, revived = users[:7]
    newer = {"version": 3, "updated_at": START + timedelta(days=1)}
    at_command = [user.model_copy(update=newer) if user is stale else user for user in users if user is not unknown]
    at_query = [user for user in users if user is not missing]
    at_query = [user.model_copy(update=newer) if user is ahead else user for user in at_query]
    at_query = [user.model_copy(update={"display_name": "?"}) if user is altered else user for user in at_query]
    await in_command(command, [user for user in at_command if user is not unerased], [(unerased.id, 2)])
    await in_query(database, at_query, [(revived.id, 2)])
    compared, found = await differences(command, database)
    assert compared == 39
    assert sorted(found, key=lambda one: one.user_id) == sorted(
        [
            UserDifference(missing.id, DifferenceKind.BEHIND, 1, None, ()),
            UserDifference(stale.id, DifferenceKind.BEHIND, 3, 1, ()),
            UserDifference(ahead.id, DifferenceKind.AHEAD, 1, 3, ()),
            UserDifference(unknown.id, DifferenceKind.AHEAD, None, 1, ()),
            UserDifference(altered.id, DifferenceKind.DIFFERENT, 1, 1, ("display_name",)),
            UserDifference(unerased.id, DifferenceKind.BEHIND, 2, 1, ()),
            UserDifference(revived.id, DifferenceKind.AHEAD, 1, 2, (), erased=True),
        ],
        key=lambda one: one.user_id,
    )


@pytest.mark.parametrize("version", [1, 4])
async def test_an_erased_person_who_is_shown_is_a_difference_though_their_erasure_is_known(
    command: Database, database: Database, version: int
) -> None:
    shown, again = new_user(1), new_user(2).model_copy(update={"version": 5})
    await in_command(command, [again], [(shown.id, 4)])
    await in_query(database, [shown.model_copy(update={"version": version}), again])
    async with database.connection() as connection:
        for user in (shown, again):
            await connection.execute("INSERT INTO users_g1_erased VALUES ($1, 4)", user.id)
    _, found = await differences(command, database)
    assert found == [UserDifference(shown.id, DifferenceKind.DIFFERENT, 4, 4, ("erased",))]


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        (b"", ("document",)),
        (b"{", ("document",)),
        (b"[1]", ("document",)),
        (b"\xff{}", ("document",)),
        (b"{}", ("document",)),
        (b'{"email_verified": "perhaps"}', ("document",)),
        (None, ("is_active", "status")),
    ],
    ids=["empty", "cut", "a list", "no text", "no fields", "a wrong type", "another status inside"],
)
async def test_a_document_that_is_not_the_users_is_a_difference_and_no_error(
    command: Database, database: Database, document: bytes | None, fields: tuple[str, ...]
) -> None:
    users = [new_user(number) for number in range(20)]
    await in_command(command, users)
    await in_query(database, users)
    other = users[3].model_copy(update={"status": "deactivated", "is_active": False}).model_dump_json().encode()
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE users_g1 SET document = $2 WHERE id = $1", users[3].id, other if document is None else document
        )
    compared, found = await differences(command, database)
    assert compared == 20
    assert found == [UserDifference(users[3].id, DifferenceKind.DIFFERENT, 1, 1, fields)]


async def test_numbers_that_jsonb_would_rewrite_are_equal(command: Database, database: Database) -> None:
    users = [new_user(1).model_copy(update={"attributes": {"n": 1e300, "m": 1.0, "k": 10**20}})]
    await in_command(command, users)
    await in_query(database, users)
    assert await differences(command, database) == (1, [])


async def test_what_arrives_meanwhile_is_no_difference(
    command: Database, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [new_user(number) for number in range(10)]
    await in_command(command, users)
    await in_query(database, users[:5])
    original = Audit._confirm

    async def late(comparison: Audit, suspects: Sequence[UUID]) -> list[UserDifference]:
        await in_query(database, users)
        return await original(comparison, suspects)

    monkeypatch.setattr(Audit, "_confirm", late)
    assert await differences(command, database) == (10, [])

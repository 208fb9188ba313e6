"""`muster parked`, `rebuild`, `lag` and `audit` as an operator calls them: output, exit codes, words for trouble."""

import json
import re
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from chassis.kafka.client import client_arguments
from chassis.postgres.database import Database
from chassis.settings import Kafka, PostgresAddress
from events.user_events import PublicUser, UserEmailChanged, UserProfileChanged, UserRegistered
from local_stack.ports import free_port
from projectors.app import serve
from projectors.operations import parked
from projectors.operations.lag import measure
from projectors.settings import ProjectorSettings
from tests.integration.muster_processes import Ended, muster
from tests.integration.projectors.conftest import running
from tests.integration.projectors.operations.test_audit import in_command
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.waiting import until


async def feed(
    kafka: Kafka, settings: ProjectorSettings, database: Database, records: list[FakeRecord], *names: str
) -> None:
    """Publish, and apply to the serving generations of these projections."""
    async with Publisher.open(kafka, settings.events_topic) as publisher:
        await publisher.publish(records)
    async with running(partial(serve, settings, projections=list(names))):

        async def applied() -> bool:
            found = [one for one in await measure(settings, database) if one.projection in names]
            return all(one.records == 0 and one.seconds is not None for one in found)

        await until(applied, within=30, what="everything to be applied")


def document(ended: Ended, code: int = 0) -> Any:
    """The JSON that a command printed."""
    assert ended.code == code, ended
    return json.loads(ended.out)


def broken(user: PublicUser) -> FakeRecord:
    """A record of this user that nobody can read."""
    good = record(UserRegistered(user=user))
    return FakeRecord(good.key, b'{"user":', good.headers)


async def test_parked_records_are_listed_shown_retried_and_discarded(
    kafka: Kafka, settings: ProjectorSettings, database: Database, variables: dict[str, str]
) -> None:
    assert (await muster(variables, "parked", "list")).out == "Nothing is parked.\n"
    ann = new_user(1)
    changed = ann.model_copy(update={"version": 2, "display_name": "Ann"})
    later = record(UserProfileChanged(user=changed, previous={"display_name": None}))
    await feed(kafka, settings, database, [broken(ann), later], "users")

    first, second = document(await muster(variables, "parked", "list", "--json"))
    assert (first["user_id"], second["user_id"]) == (str(ann.id), str(ann.id))
    assert "JSON" in first["error"]
    assert second["error"] is None
    listed = (await muster(variables, "parked", "list")).out
    assert first["id"] in listed
    assert "waits behind an earlier one" in listed
    assert document(await muster(variables, "parked", "list", "--projection", "timeline", "--json")) == []

    shown = document(await muster(variables, "parked", "show", first["id"], "--json"))
    assert (shown["key"], shown["value"]) == (str(ann.id), '{"user":')
    assert ["ce_type", "muster.user.registered.v1"] in shown["headers"]
    assert "ce_type: muster.user.registered.v1" in (await muster(variables, "parked", "show", first["id"])).out

    again = document(await muster(variables, "parked", "retry", "--json"), code=1)
    assert again == {"applied": 0, "discarded": 0, "remaining": 2}
    freed = document(await muster(variables, "parked", "discard", first["id"], "--json"))
    assert freed == {"applied": 1, "discarded": 1, "remaining": 0}
    assert (await muster(variables, "parked", "retry")).code == 0
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT version FROM users_g1 WHERE id = $1", ann.id) == 2


_PARK_MANY = """
INSERT INTO parked_records (projection, generation, topic, partition, record_offset, user_id, error, key, headers,
    value, recorded_at)
SELECT 'users', 1, 'users.events', 0, each, $1, 'no JSON', '', '[]', '', now() FROM generate_series(1, $2::int) AS each
"""


async def test_a_long_list_of_what_is_parked_says_how_to_go_on(database: Database, variables: dict[str, str]) -> None:
    async with database.connection() as connection:
        await connection.execute(_PARK_MANY, new_user(1).id, parked.LIST_RECORDS * 2 + 1)
    pages = [
        await muster(variables, "parked", "list", "--json", *after)
        for after in ([], ["--after", "users/1/0/500"], ["--after", "users/1/0/1000"])
    ]
    first = (await muster(variables, "parked", "list", "--projection", "users")).out
    last = (await muster(variables, "parked", "list", "--after", "users/1/0/1000")).out
    beyond = (await muster(variables, "parked", "list", "--after", "users/1/0/1001")).out

    listed = [[int(one["id"].split("/")[3]) for one in document(page)] for page in pages]
    assert listed == [[*range(1, 501)], [*range(501, 1001)], [1001]]
    assert pages[0].err == "There may be more: `muster parked list --after users/1/0/500 --json`\n"
    assert pages[2].err == ""
    assert first.endswith("There may be more: `muster parked list --projection users --after users/1/0/500`\n")
    assert re.findall(r"users/1/0/\d+", last) == ["users/1/0/1001"]
    assert "more" not in last
    assert beyond == "Nothing is parked behind that record.\n"


async def test_what_others_wrote_to_the_topic_is_shown_and_neither_read_as_markup_nor_obeyed_by_the_terminal(
    kafka: Kafka, settings: ProjectorSettings, database: Database, variables: dict[str, str]
) -> None:
    await feed(kafka, settings, database, [FakeRecord(b"[/red]", b"\x1b[2J", [("[bold]", b"\x07")])], "users")

    [parked] = document(await muster(variables, "parked", "list", "--json"))
    assert parked["parked_at"].endswith("Z")
    listed = await muster(variables, "parked", "list")
    assert (listed.code, "[/red]" in listed.out) == (0, True), listed
    shown = await muster(variables, "parked", "show", parked["id"])
    assert shown.out.endswith("key: [/red]\nheaders:\n  [bold]: \\x07\nvalue: \\x1b[2J\n")
    assert "user_id: (none)" in shown.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--after", "nonsense"),
        ("show", "users/1/0/7"),
        ("show", "users/1/0/9223372036854775808"),
        ("show", "users/2147483648/0/7"),
        ("discard", "users/1/0/7"),
        ("retry", "users/1/0/7"),
        ("show", "nonsense"),
    ],
)
async def test_an_id_under_which_nothing_is_parked_is_said(
    variables: dict[str, str], arguments: tuple[str, ...]
) -> None:
    ended = await muster(variables, "parked", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert arguments[-1] in ended.err
    assert "Traceback" not in ended.err
    assert "database" not in ended.err


async def test_a_rebuild_pauses_goes_on_is_rolled_back_and_retired(
    kafka: Kafka, settings: ProjectorSettings, database: Database, command_database: PostgresAddress,
    variables: dict[str, str],
) -> None:  # fmt: skip
    users = [new_user(number) for number in range(30)]
    await feed(kafka, settings, database, [record(UserRegistered(user=user)) for user in users], "signups")
    nothing = await muster(variables, "rebuild", "rollback", "signups")
    assert nothing.code == 1
    assert "nothing to go back to" in nothing.err

    async with Database.open(command_database, application="tests") as command:
        await in_command(command, [*users[1:], lacking := new_user(31)])
        otherwise = await muster(variables, "rebuild", "signups")
        assert otherwise.code == 1
        assert f"1 missing, such as {lacking.id}; 1 unknown to the command side, such as {users[0].id}" in otherwise.err
        assert "muster events refill" in otherwise.err
        listed = document(await muster(variables, "rebuild", "signups", "--json"), code=1)
        assert (listed["result"], listed["accepted"]) == ("differs", None)
        assert listed["differing"] == {"missing": [str(lacking.id)], "unknown": [str(users[0].id)]}
        async with command.connection() as connection:
            await connection.execute("DELETE FROM users WHERE id = $1", lacking.id)
        await in_command(command, users[:1])
    paused = await muster(variables, "rebuild", "signups", "--pause-before-switch")
    assert paused.code == 0, paused.err
    assert "has caught up" in paused.out
    async with running(partial(serve, settings, projections=["signups"])):
        done = document(await muster(variables, "rebuild", "signups", "--json"))
        same = "30 users compared with the command side: no difference"
        assert (done.pop("compared"), done.pop("accepted")) == (same, None)
        assert done == {"projection": "signups", "generation": 2, "result": "done"}
        status = document(await muster(variables, "rebuild", "status", "--json"))
        assert [one["status"] for one in status if one["projection"] == "signups"] == ["standby", "serving"]
        shown = (await muster(variables, "rebuild", "status")).out
        assert "standby" in shown
        assert "serving" in shown
        refused = await muster(variables, "rebuild", "retire", "signups", "--generation", "2")
        assert refused.code == 1
        assert "is serving" in refused.err
        unknown = await muster(variables, "rebuild", "rollback", "signups", "--generation", "7")
        assert (unknown.code, "no generation of signups 7 stands by" in unknown.err) == (1, True)
        back = document(await muster(variables, "rebuild", "rollback", "signups", "--generation", "1", "--json"))
        assert back == {"projection": "signups", "from": 2, "to": 1}
        async with database.connection() as connection:
            # Until ten seconds ago it served, and some query process might still read it.
            await connection.execute("UPDATE generations SET changed_at = now() - interval '1 hour'")
        gone = await muster(variables, "rebuild", "retire", "signups")
        assert (gone.code, gone.out) == (0, "signups: retired generation 2\n")
    unknown = await muster(variables, "rebuild", "nothing")
    assert unknown.code == 2
    assert (await muster(variables, "rebuild", "retire", "nothing")).code == 2


async def test_lag_says_how_far_each_projection_is_behind(
    kafka: Kafka, settings: ProjectorSettings, database: Database, variables: dict[str, str]
) -> None:
    await feed(kafka, settings, database, [record(UserRegistered(user=new_user(n))) for n in range(30)], "users")
    found = document(await muster(variables, "lag", "--json"))
    behind = {one["projection"]: one for one in found["projections"]}
    assert behind["users"]["records"] == 0
    assert behind["users"]["seconds"] >= 0
    assert behind["timeline"]["records"] >= 30
    assert behind["timeline"]["seconds"] is None
    assert len(behind["users"]["partitions"]) == settings.topic_partitions
    shown = (await muster(variables, "lag")).out
    assert "timeline" in shown
    assert "never" in shown


async def test_an_audit_tells_what_differs_and_ends_with_1(
    kafka: Kafka, settings: ProjectorSettings, database: Database, variables: dict[str, str]
) -> None:
    nothing = document(await muster(variables, "audit", "--json"))
    kinds = {"behind": 0, "forged": 0, "ahead": 0, "different": 0}
    assert nothing == {"compared": 0, "differences": kinds, "users": []}
    ann = new_user(1)
    await feed(kafka, settings, database, [record(UserRegistered(user=ann))], "users")
    found = document(await muster(variables, "audit", "--json"), code=1)
    assert found["differences"] == {**kinds, "ahead": 1}
    assert [(one["id"], one["command_version"], one["query_version"]) for one in found["users"]] == [
        (str(ann.id), None, 1)
    ]
    shown = await muster(variables, "audit")
    assert shown.code == 1
    assert str(ann.id) in shown.out
    assert "restored to an earlier time" in shown.out


async def test_forged_records_stop_nobody_and_change_nobody(
    kafka: Kafka, settings: ProjectorSettings, database: Database, command_database: PostgresAddress,
    variables: dict[str, str],
) -> None:  # fmt: skip
    ann, bob, invented = new_user(1), new_user(2), new_user(3)
    await feed(kafka, settings, database, [record(UserRegistered(user=user)) for user in (ann, bob)], "users")
    async with Database.open(command_database, application="tests") as command:
        await in_command(command, [ann, bob])
    assert (await muster(variables, "audit")).code == 0

    # Another producer, outside of any transaction, with a source of its own: a change that never was, a user who never
    # was, and bytes that mean nothing.
    stolen = ann.model_copy(update={"version": 2, "email": "evil@example.com"})
    forged = [
        record(UserEmailChanged(user=stolen, previous={"email": ann.email})),
        record(UserRegistered(user=invented)),
        FakeRecord(b"\xff\x00", b"\x00garbage", [("ce_id", None)]),
        FakeRecord(str(bob.id).encode(), b"\x00garbage", []),
    ]
    producer = AIOKafkaProducer(**client_arguments(kafka))
    await producer.start()
    for one in forged:
        headers = [(name, b"evil" if name == "ce_source" else value) for name, value in one.headers]
        await producer.send_and_wait(settings.events_topic, one.value, key=one.key, headers=headers)
    await producer.stop()
    carol = new_user(4)
    await feed(kafka, settings, database, [record(UserRegistered(user=carol))], "users")

    found = document(await muster(variables, "audit", "--json"), code=1)
    named = {one["id"] for one in found["users"]}
    assert {str(carol.id)} == named, "carol is the test's own: no command knows her"
    parked = document(await muster(variables, "parked", "list", "--json"))
    suspicious = {one["user_id"] for one in parked if one["suspicious"]}
    assert suspicious == {*(str(user.id) for user in (ann, bob, invented)), None}, "a key that is no id names nobody"


each_command_that_reads_the_query_database = pytest.mark.parametrize(
    "arguments",
    [("parked", "list"), ("rebuild", "users"), ("rebuild", "status"), ("lag",), ("audit",)],
    ids=["parked list", "rebuild", "rebuild status", "lag", "audit"],
)


@each_command_that_reads_the_query_database
async def test_a_database_that_is_down_is_said_in_one_line(
    variables: dict[str, str], arguments: tuple[str, ...]
) -> None:
    ended = await muster({**variables, "POSTGRES_PORT": str(free_port())}, *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.strip().splitlines()) == 1, ended.err


@each_command_that_reads_the_query_database
async def test_a_database_that_is_not_migrated_is_said_with_the_remedy(
    variables: dict[str, str], arguments: tuple[str, ...]
) -> None:
    ended = await muster({**variables, "QUERY_POSTGRES_DB": "postgres"}, *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert "is not migrated" in ended.err
    assert "`muster migrate all`" in ended.err


@pytest.mark.parametrize("arguments", [("rebuild", "status"), ("lag",)], ids=" ".join)
async def test_a_topic_that_is_not_there_is_told_of_each_generation(
    variables: dict[str, str], arguments: tuple[str, ...]
) -> None:
    ended = await muster({**variables, "EVENTS_TOPIC": "nothing"}, *arguments, "--json")
    shown = json.loads(ended.out)
    generations = shown if isinstance(shown, list) else shown["projections"]
    assert {generation["state"] for generation in generations} == {"topic-gone"}


async def test_a_topic_that_is_not_there_is_said_with_the_remedy_and_nothing_is_built(
    variables: dict[str, str], database: Database
) -> None:
    ended = await muster({**variables, "EVENTS_TOPIC": "nothing"}, "rebuild", "users")
    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert "`muster topics`" in ended.err
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM generations WHERE status = 'building'") == 0


@pytest.mark.parametrize("arguments", [("rebuild", "users"), ("rebuild", "status")], ids=["rebuild", "rebuild status"])
async def test_a_broker_that_is_down_is_said_in_one_line(variables: dict[str, str], arguments: tuple[str, ...]) -> None:
    ended = await muster({**variables, "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}, *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert "Traceback" not in ended.err
    assert "does not answer" in ended.err


async def test_an_upgrade_makes_anew_what_an_older_version_made_in_another_shape_and_nothing_else(
    kafka: Kafka, settings: ProjectorSettings, database: Database, variables: dict[str, str]
) -> None:
    nothing = await muster(variables, "rebuild", "outdated")
    assert (nothing.code, nothing.out) == (0, "every read table has the shape that this version reads\n")
    await feed(kafka, settings, database, [record(UserRegistered(user=new_user(1)))], "timeline")
    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET shape = 1 WHERE projection = 'timeline'")

    ended = await muster(variables, "rebuild", "outdated")

    assert ended.code == 0, ended
    found = {(one["projection"], one["generation"]): one for one in await status(variables)}
    assert (found["timeline", 1]["status"], found["timeline", 1]["shape"]) == ("standby", 1)
    assert (found["timeline", 2]["status"], found["timeline", 2]["shape"]) == ("serving", 2)
    assert ("users", 2) not in found
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM timeline_g2") == 1


async def test_an_upgrade_asks_the_command_side_where_what_serves_is_refused(
    kafka: Kafka, settings: ProjectorSettings, database: Database, command_database: PostgresAddress,
    variables: dict[str, str],
) -> None:  # fmt: skip
    ann = new_user(1)
    await feed(kafka, settings, database, [record(UserRegistered(user=ann))], "timeline")
    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET shape = 1, refusal = 'no' WHERE projection = 'timeline'")

    alone = {name: value for name, value in variables.items() if name != "COMMAND_POSTGRES_DB"}
    refused = await muster(alone, "rebuild", "outdated")
    assert (refused.code, "another shape" in refused.err, "COMMAND_POSTGRES" in refused.err) == (1, True, True)
    [goes_on, accepts] = [one for one in re.findall(r"`muster ([^`]+)`", refused.err) if one.startswith("rebuild")]
    assert (goes_on, accepts) == ("rebuild timeline", "rebuild timeline --accept-difference")

    differs = await muster(variables, "rebuild", "outdated")
    assert (differs.code, f"1 unknown to the command side, such as {ann.id}" in differs.err) == (1, True)
    async with Database.open(command_database, application="tests") as command:
        await in_command(command, [ann])
    assert (await muster(variables, "rebuild", "outdated")).code == 0
    assert [one["status"] for one in await status(variables) if one["projection"] == "timeline"] == [
        "standby", "serving",
    ]  # fmt: skip


async def status(variables: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(await muster(variables, "rebuild", "status", "--json"))
    return found

"""`muster doctor` against real servers: right is ok, wrong has a remedy, and one fault hides no other."""

import asyncio
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.kafka.client import admin
from chassis.settings import Kafka, PostgresAddress, Topics
from cli.doctor.budget import Instances
from cli.doctor.checks import examine
from cli.doctor.findings import Finding
from events.user_events import UserRegistered
from outbox.published_topics import note_leader
from projectors.projections.catalogue import PROJECTIONS
from tests.conftest import create_database, drop_database, kafka_variables
from tests.infrastructure import Servers
from tests.integration.muster_processes import muster
from tests.integration.projectors.stream import Publisher, new_user, record


@dataclass(frozen=True, slots=True)
class Doctor:
    """The doctor in an environment that the test can spoil."""

    environment: pytest.MonkeyPatch

    async def examine(self, **instances: int) -> dict[str, list[Finding]]:
        """Every finding by its check; whatever is not ok says what to do."""
        findings = await examine(Instances(**instances))
        assert all(finding.remedy for finding in findings if finding.result != "ok"), findings
        by_check: dict[str, list[Finding]] = {}
        for finding in findings:
            by_check.setdefault(finding.check, []).append(finding)
        return by_check


@pytest.fixture
def databases(command_database: PostgresAddress, query_database: PostgresAddress) -> dict[str, PostgresAddress]:
    """Both."""
    return {"COMMAND": command_database, "QUERY": query_database}


@pytest.fixture
def doctor(
    databases: dict[str, PostgresAddress], kafka: Kafka, topics: Topics, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Doctor:
    """Everything in place."""
    monkeypatch.chdir(tmp_path)
    for name, address in databases.items():
        monkeypatch.setenv(f"{name}_POSTGRES_SERVER", address.server)
        monkeypatch.setenv(f"{name}_POSTGRES_PORT", str(address.port))
        monkeypatch.setenv(f"{name}_POSTGRES_USER", address.user)
        monkeypatch.setenv(f"{name}_POSTGRES_PASSWORD", address.password.get_secret_value())
        monkeypatch.setenv(f"{name}_POSTGRES_DB", address.database)
    for name, value in kafka_variables(kafka).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EVENTS_TOPIC", topics.events_topic)
    monkeypatch.setenv("RELAY_TOPIC", topics.relay_topic)
    monkeypatch.setenv("IDEMPOTENCY_SECRET", "x" * 32)
    monkeypatch.setenv("CREDENTIALS_SECRETS", "x" * 32)
    monkeypatch.setenv("CURSOR_KEYS", "k1:" + "A" * 43)
    return Doctor(monkeypatch)


async def _durable(address: PostgresAddress) -> bool:
    """The test servers may be fast instead."""
    connection = await asyncpg.connect(**address.connect_arguments)
    try:
        return bool(await connection.fetchval("SELECT current_setting('fsync') = 'on'"))
    finally:
        await connection.close()


async def _set_verbosity(address: PostgresAddress, verbosity: str) -> None:
    """For the sessions of this database that begin from now on."""
    connection = await asyncpg.connect(**address.connect_arguments)
    try:
        await connection.execute(f"ALTER DATABASE \"{address.database}\" SET log_error_verbosity = '{verbosity}'")
    finally:
        await connection.close()


async def test_a_whole_installation_is_ok_but_for_the_servers_own_durability(
    doctor: Doctor, command_database: PostgresAddress, topics: Topics
) -> None:
    await _set_verbosity(command_database, "terse")

    findings = await doctor.examine()

    # Without ACLs, and whatever the broker: tests/integration/access/test_kafka.py.
    open_ = [check for check in findings if check.startswith(("writers of ", "users of "))]
    assert f"writers of {topics.events_topic}" in open_
    assert {finding.result for check in open_ for finding in findings.pop(check)} == {"warning"}

    durability = [finding for check in ("command durability", "query durability") for finding in findings.pop(check)]
    feeds = [finding for name in PROJECTIONS for finding in findings.pop(f"feed: {name}")]
    assert {(finding.result, "nobody has fed" in finding.remedy) for finding in feeds} == {("warning", True)}
    assert {finding.result for found in findings.values() for finding in found} == {"ok"}
    if await _durable(command_database):
        assert {finding.result for finding in durability} == {"ok"}
    else:
        assert {finding.result for finding in durability} == {"failed"}
        assert any("fsync is off" in finding.found for finding in durability)


@pytest.mark.parametrize("verbosity", ["default", "verbose"])
async def test_a_log_that_names_people_is_told(
    doctor: Doctor, command_database: PostgresAddress, verbosity: str
) -> None:
    await _set_verbosity(command_database, verbosity)

    [finding] = (await doctor.examine())["command log"]

    assert (finding.result, finding.found) == ("warning", f"log_error_verbosity is {verbosity}")
    assert "log_error_verbosity=terse" in finding.remedy


async def test_missing_settings_of_one_process_do_not_keep_the_others_from_being_examined(doctor: Doctor) -> None:
    doctor.environment.delenv("CURSOR_KEYS")
    doctor.environment.setenv("IDEMPOTENCY_SECRET", "short")

    findings = await doctor.examine()

    [query], [command] = findings["settings: query API"], findings["settings: command API"]
    assert "CURSOR_KEYS is missing" in query.found
    assert "IDEMPOTENCY_SECRET is wrong" in command.found
    assert "short" not in command.found
    assert [finding.result for finding in findings["command migrations"] + findings["query migrations"]] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("check", "given", "missing"),
    [
        ("settings: event API", {"EVENT_API_SECRETS": "x" * 32}, "RECEIPTS_KEY is missing"),
        ("settings: console", {"CONSOLE_COMMAND_URL": "http://127.0.0.1:8000"}, "CONSOLE_SECRET is missing"),
    ],
)
async def test_a_process_that_may_be_left_out_is_examined_where_it_is_set_up(
    doctor: Doctor, check: str, given: dict[str, str], missing: str
) -> None:
    assert check not in await doctor.examine()
    for name, value in given.items():
        doctor.environment.setenv(name, value)

    [finding] = (await doctor.examine())[check]

    assert finding.result == "failed"
    assert missing in finding.found


async def test_servers_that_are_away_fail_alone(doctor: Doctor) -> None:
    doctor.environment.setenv("COMMAND_POSTGRES_PORT", "1")
    doctor.environment.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")

    findings = await doctor.examine()

    assert [finding.result for finding in findings["command database"]] == ["failed"]
    assert [finding.result for finding in findings["Kafka"]] == ["failed"]
    assert [finding.result for finding in findings["query database"]] == ["ok"]
    assert [finding.result for finding in findings["query connections"]] == ["ok"]


async def test_brokers_that_answer_nothing_are_told_in_words(doctor: Doctor) -> None:
    # As those are that have lost the greater part of their cluster.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        doctor.environment.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{silent.getsockname()[1]}")
        [finding] = (await doctor.examine())["Kafka"]

    assert (finding.result, "no answer in time" in finding.found) == ("failed", True), finding


@pytest.mark.parametrize("side", ["command", "query"])
async def test_a_database_without_tables_says_which_command_makes_them(
    doctor: Doctor, servers: Servers, side: str
) -> None:
    name = f"empty_{uuid4().hex[:12]}"
    await create_database(servers, name, "template1")
    doctor.environment.setenv(f"{side.upper()}_POSTGRES_DB", name)
    try:
        [finding] = (await doctor.examine())[f"{side} migrations"]
        [command] = re.findall(r"`muster ([^`]+)`", finding.remedy)
        migrated = await muster(dict(os.environ), *command.split())
        [mended] = (await doctor.examine())[f"{side} migrations"]
    finally:
        await drop_database(servers, name)

    assert (finding.result, finding.remedy) == ("failed", f"`muster migrate {side}`")
    assert (migrated.code, mended.result) == (0, "ok"), migrated


async def test_topics_that_are_missing_or_otherwise_divided_or_configured_are_told(
    doctor: Doctor, kafka: Kafka, topics: Topics
) -> None:
    wrong = ConfigResource(ConfigResourceType.TOPIC, topics.events_topic, configs={"cleanup.policy": "delete"})
    async with admin(kafka) as client:
        await client.alter_configs([wrong])
    doctor.environment.setenv("RELAY_TOPIC", "no.such.topic")

    findings = await doctor.examine()

    [events], [relay] = findings[f"topic {topics.events_topic}"], findings["topic no.such.topic"]
    assert events.result == relay.result == "failed"
    assert "cleanup.policy=delete (should be compact)" in events.found
    assert (relay.found, relay.remedy) == ("is not there", "`muster topics`")

    doctor.environment.setenv("TOPIC_PARTITIONS", "6")
    findings = await doctor.examine()
    [events], [divided] = findings[f"topic {topics.events_topic}"], findings[f"partitions of {topics.events_topic}"]
    [(name, number)] = re.findall(r"^set (\w+)=(\d+)$", divided.remedy)
    doctor.environment.setenv(name, number)
    [mended] = (await doctor.examine())[f"partitions of {topics.events_topic}"]
    assert (divided.result, mended.result) == ("failed", "ok")
    assert "12 partitions, not 6" in events.found
    assert f"`partitions of {topics.events_topic}`" in events.remedy


async def test_a_topic_that_was_made_anew_with_another_number_of_partitions_is_taken_while_it_is_empty(
    doctor: Doctor, kafka: Kafka, topics: Topics, command_database: PostgresAddress
) -> None:
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        await note_leader(connection, topics.events_topic, topics.topic_partitions + 1)
    finally:
        await connection.close()
    check = f"partitions of {topics.events_topic}"

    [empty] = (await doctor.examine())[check]
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        await publisher.publish([record(UserRegistered(user=new_user(1)))])
    [filled] = (await doctor.examine())[check]

    assert (empty.result, empty.found) == ("ok", "nothing was published yet")
    assert (filled.result, "change-the-number-of-partitions.md" in filled.remedy) == ("failed", True)


async def test_more_copies_wanted_than_there_are_is_told(doctor: Doctor, topics: Topics) -> None:
    doctor.environment.setenv("TOPIC_REPLICATION_FACTOR", "3")

    [finding] = (await doctor.examine())[f"durability of {topics.events_topic}"]

    assert finding.result == "warning"
    assert "1 copies, not 3" in finding.found


async def test_the_budget_counts_all_processes_on_one_server(doctor: Doctor) -> None:
    doctor.environment.setenv("WORKERS", "256")

    [finding] = (await doctor.examine(projectors=2))["connections"]

    assert finding.result == "failed"
    for who in ("command API", "query API", "relay", "projectors 60"):
        assert who in finding.found
    assert "WORKERS" in finding.remedy


async def test_a_role_that_may_not_create_tables_cannot_rebuild(
    doctor: Doctor, servers: Servers, query_database: PostgresAddress
) -> None:
    role = f"reader_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(**query_database.connect_arguments)
    try:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p' CONNECTION LIMIT 7")
        doctor.environment.setenv("QUERY_POSTGRES_USER", role)
        doctor.environment.setenv("QUERY_POSTGRES_PASSWORD", "p")
        doctor.environment.setenv("QUERY_POSTGRES_POOL_SIZE", "1")
        await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        findings = await doctor.examine()
    finally:
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")
        await connection.close()

    [created] = findings["query database"]
    [connections] = findings["connections"]
    assert "GRANT CREATE" in created.remedy
    assert "of the 7 that this role may open" in connections.found


async def test_nothing_is_changed_by_looking(doctor: Doctor, command_database: PostgresAddress) -> None:
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        before = await connection.fetchval("SELECT count(*) FROM pg_class")
        await asyncio.gather(doctor.examine(), doctor.examine())
        assert await connection.fetchval("SELECT count(*) FROM pg_class") == before
    finally:
        await connection.close()


async def test_an_operator_who_is_told_no_secret_of_the_processes_misses_nothing(
    doctor: Doctor, databases: dict[str, PostgresAddress]
) -> None:
    """As in containers: the passwords are the operator's own, and nobody's secrets are there."""
    address = databases["COMMAND"]
    doctor.environment.setenv("OPERATOR_POSTGRES_USER", address.user)
    doctor.environment.setenv("OPERATOR_POSTGRES_PASSWORD", address.password.get_secret_value())
    for name in (
        "COMMAND_POSTGRES_PASSWORD",
        "QUERY_POSTGRES_PASSWORD",
        "IDEMPOTENCY_SECRET",
        "CREDENTIALS_SECRETS",
        "CURSOR_KEYS",
    ):
        doctor.environment.delenv(name)
    found = await doctor.examine()

    settings = {name: each[0].result for name, each in found.items() if name.startswith("settings:")}
    feeds = [finding for name in PROJECTIONS for finding in found[f"feed: {name}"]]
    assert set(settings.values()) == {"ok"}, found
    assert all("nobody has fed" in finding.remedy for finding in feeds), feeds
    assert "an operator is not told" in found["settings: command API"][0].found
    doctor.environment.setenv("WORKERS", "none")
    assert (await doctor.examine())["settings: command API"][0].result == "failed"

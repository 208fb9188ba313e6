"""The judgements of `muster doctor` that no single server can be brought to: clusters, clocks, budgets."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.kafka.client import Topic
from cli.doctor.budget import (
    CONSOLE_CONNECTIONS,
    EVENT_WORKER_CONNECTIONS,
    LEADER_CONNECTIONS,
    OPERATOR_CONNECTIONS,
    Instances,
    budget,
)
from cli.doctor.checks import _in_time
from cli.doctor.findings import Finding
from cli.doctor.kafka import Partition, judge_brokers, judge_copies
from cli.doctor.kafka_access import OPEN_WITHOUT_ACL, judge_writers
from cli.doctor.postgres import Server, judge_clock
from command_api.settings import CommandApiSettings
from console.settings import ConsoleSettings
from projectors.settings import ProjectorSettings
from query_api.settings import QueryApiSettings

SERVER = Server(datetime(2026, 11, 22, tzinfo=UTC), "5432", connections=300, reserved=3)
ONE_EACH = {"command": SERVER, "query": replace(SERVER, port="5433")}
SHARED = {"command": SERVER, "query": SERVER}
ADDRESS = {"server": "db", "port": 5432, "user": "u", "password": None, "db": "d", "pool_size": 20, "max_overflow": 10}

#: What is there once, however many of the others are: the console in both databases, and operators.
ALONE = 2 * CONSOLE_CONNECTIONS + OPERATOR_CONNECTIONS


@pytest.mark.parametrize(("apart", "result"), [(0.01, "ok"), (1.5, "warning"), (60.0, "failed")])
def test_a_clock_that_is_off_is_told_with_its_remedy(apart: float, result: str) -> None:
    finding = judge_clock("command clock", apart)

    assert finding.result == result
    assert bool(finding.remedy) == (result != "ok")


async def test_a_look_that_does_not_end_is_a_finding_and_no_traceback() -> None:
    async def endless() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    [finding] = await _in_time("Kafka", endless(), 0.01)

    assert (finding.check, finding.result, bool(finding.remedy)) == ("Kafka", "failed", True)


def _budget(instances: Instances, servers: dict[str, Server], *, workers: int = 1) -> list[Finding]:
    """With 20 + 10 connections a pool."""
    command: dict[str, Any] = {f"command_postgres_{name}": value for name, value in ADDRESS.items()}
    query: dict[str, Any] = {f"query_postgres_{name}": value for name, value in ADDRESS.items()}
    return budget(
        CommandApiSettings.model_construct(workers=workers, **command),
        QueryApiSettings.model_construct(workers=workers, **query),
        ProjectorSettings.model_construct(**query),
        instances,
        servers,
    )


def test_apis_relay_projectors_and_console_count_where_both_databases_are_on_one_server() -> None:
    [finding] = _budget(Instances(), SHARED)

    wanted = (30 + 2) + LEADER_CONNECTIONS + (30 + 1) + EVENT_WORKER_CONNECTIONS + 30 + ALONE
    assert finding.result == "ok"
    assert f"= {wanted} of the 300" in finding.found
    assert finding.found.count(f"console (command database) {CONSOLE_CONNECTIONS}") == 1
    assert finding.found.count(f"console (query database) {CONSOLE_CONNECTIONS}") == 1


def test_the_console_counts_with_what_it_opens() -> None:
    settings = ConsoleSettings.model_construct(
        **{f"{side}_postgres_{name}": value for side in ("command", "query") for name, value in ADDRESS.items()}  # type: ignore[arg-type] # as above
    )

    for side in (settings.command_side, settings.query_side):
        assert side.pool_size + side.max_overflow == CONSOLE_CONNECTIONS


def test_workers_and_instances_multiply_and_too_many_fail_with_the_number_that_would_do() -> None:
    [finding] = _budget(Instances(relays=2, projectors=2), SHARED, workers=4)

    apis = 4 * ((30 + 2) + (30 + 1) + EVENT_WORKER_CONNECTIONS)
    wanted = apis + LEADER_CONNECTIONS + 1 + 2 * 30 + ALONE
    assert finding.result == "failed"
    assert f"raise max_connections to {wanted + SERVER.reserved}" in finding.remedy


def test_two_servers_have_a_budget_each() -> None:
    command, query = _budget(Instances(command_apis=10), ONE_EACH)

    assert (command.check, command.result) == ("command connections", "failed")
    assert (query.check, query.result) == ("query connections", "ok")


def test_the_lower_limit_of_two_roles_on_one_server_counts() -> None:
    [finding] = _budget(Instances(), SHARED | {"query": replace(SERVER, connections=50)})

    assert finding.result == "failed"


def test_a_server_that_was_not_reached_has_no_budget() -> None:
    assert [finding.check for finding in _budget(Instances(), {"query": SERVER})] == ["query connections"]


def _topic(copies: int, least: int) -> Topic:
    return Topic("users.events", 2, {"min.insync.replicas": str(least)}, copies)


def _partitions(copies: int, in_sync: int, *, leader: bool = True) -> list[Partition]:
    brokers = range(1, copies + 1)
    return [
        Partition(number, frozenset(brokers), frozenset(brokers[:in_sync]), has_leader=leader) for number in range(2)
    ]


@pytest.mark.parametrize(
    ("topic", "partitions", "brokers", "result", "says"),
    [
        (_topic(1, 1), _partitions(1, 1), 1, "ok", "1 of 1"),
        (_topic(3, 2), _partitions(3, 3), 3, "ok", "2 of 3"),
        (_topic(3, 2), _partitions(3, 2), 3, "warning", "not every copy"),
        (_topic(3, 2), _partitions(3, 1), 3, "failed", "fewer than 2"),
        (_topic(3, 2), _partitions(3, 0, leader=False), 3, "failed", "no leader"),
        (_topic(1, 1), _partitions(1, 1), 3, "warning", "one copy is enough"),
        (_topic(3, 2), _partitions(1, 1), 3, "failed", "of which 2"),
        (_topic(3, 3), _partitions(3, 3), 3, "warning", "all 3 copies"),
        (_topic(2, 1), _partitions(1, 1), 1, "warning", "not 2 as the settings say"),
    ],
)
def test_what_would_lose_or_stop_events_on_a_cluster_is_told_with_its_remedy(
    topic: Topic, partitions: list[Partition], brokers: int, result: str, says: str
) -> None:
    findings = judge_copies(topic, partitions, brokers)

    [finding] = [finding for finding in findings if says in finding.found]
    assert finding.result == result
    assert all(bool(finding.remedy) == (finding.result != "ok") for finding in findings)


@pytest.mark.parametrize(("in_sync", "brokers"), [(2, "broker 3 is"), (1, "broker 2, 3 is")])
def test_the_brokers_whose_copies_are_not_in_sync_are_named(in_sync: int, brokers: str) -> None:
    [finding] = judge_copies(_topic(3, 2), _partitions(3, in_sync), 3)

    assert brokers in finding.remedy


def test_brokers_that_would_refuse_the_relays_transactions_are_told() -> None:
    refused = judge_brokers("k:9092", 1, {"transaction.max.timeout.ms": "5000"}, 10_000)
    taken = judge_brokers("k:9092", 3, {"transaction.max.timeout.ms": "900000"}, 10_000)

    assert (refused.result, taken.result) == ("failed", "ok")
    assert "RELAY_TRANSACTION_TIMEOUT_MS=10000" in refused.found
    assert taken.found == "k:9092, 3 brokers"


@pytest.mark.parametrize(
    ("allowed", "configs", "result", "says"),
    [
        ([], None, "warning", "not known: no ACL names it"),
        ([], {OPEN_WITHOUT_ACL: "true"}, "warning", "anybody, unless"),
        ([], {OPEN_WITHOUT_ACL: None}, "warning", "anybody, unless"),
        ([], {OPEN_WITHOUT_ACL: "false"}, "ok", "the brokers' superusers"),
        ([], {}, "ok", "the brokers' superusers"),
        ([("User:relay", 4)], None, "ok", "User:relay, the brokers' superusers"),
        ([("User:*", 2)], None, "warning", "an ACL allows it to User:*"),
        ([("User:ANONYMOUS", 4), ("User:relay", 4)], {}, "warning", "an ACL allows it to User:ANONYMOUS"),
        ([("User:*", 3)], {OPEN_WITHOUT_ACL: "true"}, "ok", "the brokers' superusers"),
    ],
)
def test_who_may_write_is_told_or_that_it_is_not_known(
    allowed: list[tuple[str, int]], configs: dict[str, str | None] | None, result: str, says: str
) -> None:
    finding = judge_writers("writers", allowed, configs, "harm")

    assert (finding.result, says in finding.found) == (result, True)

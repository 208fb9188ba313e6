"""One command followed by its trace, from the request to the read that shows it, through processes as they are run."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from chassis.consistency import ConsistencyToken
from chassis.settings import Kafka, PostgresAddress, Topics
from chassis.tracing.spans import SpanKind
from local_stack.ports import free_port, free_ports
from projectors.projections.catalogue import PROJECTIONS
from tests.integration.muster_processes import environment, running
from tests.integration.outbox.relaying import settings_for
from tests.integration.outbox.traffic import consume
from tests.servers.otlp_collector import Collector, collecting
from tests.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
WITHIN = 60
INNER = ("COMMAND_API_OPS_PORT", "QUERY_API_OPS_PORT")
PROCESSES = ("serve command", "serve query", "relay", "project")
HTTP_SECONDS = 30


@dataclass(frozen=True)
class Muster:
    """The processes that a command passes, and what they log."""

    command: httpx.AsyncClient
    query: httpx.AsyncClient
    logs: list[Path]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as opened:
        yield opened


@pytest.fixture
def variables(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> dict[str, str]:
    inner = dict(zip(INNER, map(str, free_ports(len(INNER))), strict=True))
    return environment(kafka, topics, command_database, query_database, **inner)


@pytest.fixture
async def muster(variables: dict[str, str], collector: Collector, tmp_path: Path) -> AsyncIterator[Muster]:
    told = {**variables, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    async with AsyncExitStack() as stack:
        ports = dict(zip(PROCESSES, free_ports(len(PROCESSES)), strict=True))
        logs = [tmp_path / f"{name}.log" for name in PROCESSES]
        for (name, port), log in zip(ports.items(), logs, strict=True):
            await stack.enter_async_context(running(told, *name.split(), "--port", str(port), port=port, log=log))
        command, query = [await stack.enter_async_context(client(ports[name])) for name in PROCESSES[:2]]
        yield Muster(command, query, logs)


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=HTTP_SECONDS)


async def test_one_command_is_followed_from_its_request_to_its_read(
    muster: Muster, collector: Collector, topics: Topics, command_database: PostgresAddress, kafka: Kafka
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    ann = {"email": "ann@example.com", "username": "ann", "password": "a password of ann's"}
    registered = await muster.command.post("/users", json=ann, headers=headers)
    user_id, seen = registered.json()["id"], registered.headers["Consistency-Token"]
    fresh = {**headers, "Consistency-Token": seen, "Prefer": "wait=20"}
    assert (await muster.query.get(f"/users/{user_id}", headers=fresh)).status_code == 200
    ahead = {**headers, "Consistency-Token": ConsistencyToken(UUID(user_id), 2).encode(), "Prefer": "wait=1"}
    assert (await muster.query.get(f"/users/{user_id}", headers=ahead)).status_code == 504

    request = await collector.span("POST /users", service="command-api")
    assert (request.trace_id.hex(), request.parent_id.hex(), request.kind) == (TRACE, CALLER, SpanKind.SERVER)
    assert request.attributes["muster.request_id"] == registered.headers["X-Request-Id"]
    decide, commit = await collector.span("decide"), await collector.span("commit users")
    assert decide.is_part_of(request)
    assert decide.attributes == {"muster.command": "RegisterUser"}
    assert commit.is_part_of(request)
    assert commit.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": command_database.database,
        "db.collection.name": "users",
        "db.operation.name": "commit",
    }

    waited = await collector.span("outbox wait", service="relay")
    sent = await collector.span(f"send {topics.events_topic}", service="relay")
    assert waited.is_part_of(request)
    assert request.start <= decide.start <= decide.end <= commit.start <= waited.start <= sent.end <= waited.end
    assert sent.follows(request)
    (record,) = (await consume(settings_for(command_database, kafka, topics))).records
    assert dict(record.headers)["traceparent"].decode() == f"00-{TRACE}-{request.span_id.hex()}-01"

    for projection in PROJECTIONS:
        process = await collector.span(f"process {topics.events_topic}", **{"muster.projection": projection})
        assert (process.service, process.kind, process.follows(request)) == ("projectors", SpanKind.CONSUMER, True)
        assert sent.start <= process.start
        assert (await collector.span("commit checkpoints", parent_id=process.span_id)).is_part_of(process)

    read = await collector.span("GET /users/{id}", service="query-api", **{"http.response.status_code": 200})
    late = await collector.span("GET /users/{id}", service="query-api", **{"http.response.status_code": 504})
    assert {read.trace_id.hex(), late.trace_id.hex()} == {TRACE}
    wait = await collector.span("wait for version", parent_id=late.span_id)
    assert wait.is_part_of(late)
    assert wait.attributes["muster.projection"] == "users"
    shown = await collector.span(f"process {topics.events_topic}", **{"muster.projection": "users"})
    assert shown.start <= read.end


async def test_a_collector_that_is_away_keeps_nobody_waiting_and_is_told_of_once(
    variables: dict[str, str], tmp_path: Path
) -> None:
    log, port = tmp_path / "command.log", free_port()
    told = {**variables, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}

    async def is_told() -> bool:
        return "tracing.collector_unavailable" in log.read_text(encoding="utf-8")

    async with running(told, "serve", "command", "--port", str(port), port=port, log=log), client(port) as command:
        for number in range(3):
            person = {
                "email": f"ann{number}@example.com",
                "username": f"ann{number}",
                "password": "a password of ann's",
            }
            assert (await command.post("/users", json=person)).status_code == 201
        await until(is_told, within=WITHIN, what="the outage to be told")

    assert log.read_text(encoding="utf-8").count("tracing.") == 1

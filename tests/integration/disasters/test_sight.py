"""Every expression of alerts, dashboards and scaling is asked of running processes, in whom what it looks for happens.

That series, labels and their values are there is seen here; what an expression makes of them Prometheus
tries (`make test-alerts`).
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families

from chassis.consistency import ConsistencyToken
from chassis.settings import PostgresAddress
from local_stack.ports import free_port
from projectors.settings import ProjectorSettings
from tests.certificates import Authority
from tests.integration.command_api.conftest import registration
from tests.integration.muster_processes import running
from tests.issuing import auth, bearer
from tests.unit.deploy.every_expression import expressions
from tests.unit.deploy.expressions import Matcher, matched
from tests.unit.deploy.files import rules
from tests.waiting import until

#: A series with its labels, those of the target among them.
Series = tuple[str, dict[str, str]]
#: As whom they run, and by which port they tell of themselves.
PORTS = {
    "command-api": "COMMAND_API_OPS_PORT",
    "query-api": "QUERY_API_OPS_PORT",
    "relay": "RELAY_HTTP_PORT",
    "projectors": "PROJECTORS_HTTP_PORT",
}
PROGRAMS = {
    "command-api": ("serve", "command"),
    "query-api": ("serve", "query"),
    "relay": ("relay",),
    "projectors": ("project",),
}
#: The namespace that the chart was rendered for.
NAMESPACE = "prod"
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


async def test_running_processes_have_every_series_that_an_expression_asks_for(
    settings: ProjectorSettings,
    variables: dict[str, str],
    command_database: PostgresAddress,
    query_database: PostgresAddress,
    tmp_path: Path,
) -> None:
    async with installed(variables, tmp_path) as (told, commands, queries):
        await serve_somebody(commands, queries)
        await keep_queries_waiting(queries)
        for database, table, client, path in (
            (command_database, "users", commands, "/users"),
            (query_database, "users_g1", queries, f"/users/{uuid4()}"),
        ):
            await fail(database, table, client, path)
        await until(partial(is_limited, commands), within=10, what="a command to be one too many")
        await asyncio.to_thread(Path(told["AUTH_JWKS_FILE"]).unlink)

        lacking: set[str] = set()

        async def nothing_is_missing() -> bool:
            lacking.clear()
            lacking.update(missing(await scrape(told)))
            return not lacking

        try:
            await until(nothing_is_missing, within=20, what="every series that is asked for")
        finally:
            assert sorted(lacking) == []


@asynccontextmanager
async def installed(
    variables: dict[str, str], folder: Path
) -> AsyncIterator[tuple[dict[str, str], httpx.AsyncClient, httpx.AsyncClient]]:
    """What the processes are told, and a client of each API."""
    trusted = auth()
    keys = shutil.copy(trusted["AUTH_JWKS_FILE"], folder)
    ports = {name: str(free_port()) for name in ("COMMAND_API_PORT", "QUERY_API_PORT", *PORTS.values())}
    told = {name: value for name, value in variables.items() if name != "AUTH_DISABLED"}
    told |= trusted | ports | {"AUTH_JWKS_FILE": str(keys), "AUTH_JWKS_REFRESH_SECONDS": "1"}
    # The first request that waits fills the port of queries, and no more commands than two are taken at once.
    certificate, key = map(str, Authority(folder).sign("query-api"))
    own = {
        "query-api": {
            "HTTP_CONNECTIONS": "1",
            "QUERY_POSTGRES_SSLCERT": certificate,
            "QUERY_POSTGRES_SSLKEY": key,
        },
        "command-api": {"RATE_LIMIT_COMMANDS": "2/min"},
    }
    async with AsyncExitStack() as stack:
        for job, program in PROGRAMS.items():
            process = running(told | own.get(job, {}), *program, port=int(ports[PORTS[job]]))
            await stack.enter_async_context(process)
        commands, queries = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[name]}", headers=bearer(), timeout=15)
            )
            for name in ("COMMAND_API_PORT", "QUERY_API_PORT")
        ]
        yield told, commands, queries


async def serve_somebody(commands: httpx.AsyncClient, queries: httpx.AsyncClient) -> None:
    """Register a user, and read it once it is there."""
    answer = await commands.post("/users", json=registration("ann"))
    assert answer.status_code == 201
    headers = {"Consistency-Token": answer.headers["Consistency-Token"], "Prefer": "wait=10", "Connection": "close"}
    assert (await queries.get(f"/users/{answer.json()['id']}", headers=headers)).status_code == 200


async def keep_queries_waiting(queries: httpx.AsyncClient) -> None:
    """Wait in vain for a version, on the one connection that there may be, while another is refused."""
    nobody = uuid4()
    headers = {"Consistency-Token": ConsistencyToken(nobody, 1).encode(), "Prefer": "wait=6", "Connection": "close"}
    sent = asyncio.Event()

    async def note(event: str, _: object) -> None:
        if event == "http11.send_request_body.complete":
            sent.set()

    request = queries.get(f"/users/{nobody}", headers=headers, extensions={"trace": note})
    waiting = asyncio.create_task(request)
    # Otherwise the other one might be there first.
    await sent.wait()

    async def is_refused() -> bool:
        try:
            return (await queries.get("/users")).status_code == 503
        except httpx.TransportError:
            return True

    await until(is_refused, within=6, what="a connection to be refused")
    assert (await waiting).status_code == 504


async def is_limited(commands: httpx.AsyncClient) -> bool:
    """Whether the rate limit refuses a command."""
    return (await commands.patch(f"/users/{uuid4()}/profile", json={"display_name": "Bo"})).status_code == 429


async def fail(database: PostgresAddress, table: str, client: httpx.AsyncClient, path: str) -> None:
    """Have a request answered 503, because somebody holds the table that it needs."""
    holder = await asyncpg.connect(**database.connect_arguments)
    try:
        async with holder.transaction():
            await holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            request = client.post(path, json=registration("bob")) if table == "users" else client.get(path)
            assert (await request).status_code == 503
    finally:
        await holder.close()


async def scrape(told: dict[str, str]) -> list[Series]:
    """Every series of every process, as Prometheus knows it."""
    found: list[Series] = []
    async with httpx.AsyncClient(trust_env=False) as client:
        for job, port in PORTS.items():
            text = (await client.get(f"http://127.0.0.1:{told[port]}/metrics")).text
            target = {"job": job, "instance": f"127.0.0.1:{told[port]}", "namespace": NAMESPACE}
            found += [
                (sample.name, {**sample.labels, **target})
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            ]
    return found


def missing(series: list[Series]) -> Iterator[str]:
    """What expressions ask for and no series has: by each alternative of each label."""
    for name, expression in expressions():
        for asked, matchers in matched(expression.replace("$namespace", NAMESPACE)):
            if asked in RECORDED or asked == "up":
                continue
            for alternative in alternatives(matchers):
                if not any(asked == given and fits(labels, alternative) for given, labels in series):
                    yield f"{name}: {asked} {alternative}"


def alternatives(matchers: list[Matcher]) -> Iterator[list[Matcher]]:
    """All comparisons, and each value of a pattern by itself: one that is misspelt would be hidden by the others."""
    yield matchers
    for number, matcher in enumerate(matchers):
        if len(matcher.values) > 1 and not matcher.negated:
            for value in matcher.values:
                yield [*matchers[:number], replace(matcher, values=(value,)), *matchers[number + 1 :]]


def fits(labels: dict[str, str], matchers: list[Matcher]) -> bool:
    """Whether a series is meant; a label that it has not is empty, as in Prometheus."""
    return all(matcher.takes(labels.get(matcher.label, "")) for matcher in matchers)

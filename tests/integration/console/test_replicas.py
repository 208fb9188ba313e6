"""Of several processes by one name the console asks each: two query APIs, at two addresses of this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from console.overview.observation import REQUEST_SECONDS, Observation, look_at_processes
from console.overview.stations import Station, stations
from console.overview.verdict import findings
from local_stack.ports import free_port
from tests.integration.muster_processes import environment, running
from tests.unit.console.test_overview import WELL, watched

FIRST, SECOND = "127.0.0.2", "127.0.0.3"
NAME = "query-apis"
KAFKA = Kafka.model_validate({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})


@pytest.fixture
def inner(monkeypatch: pytest.MonkeyPatch) -> int:
    """The inner port, where the name leads to both addresses, as that of a headless Service does."""
    ask = asyncio.BaseEventLoop.getaddrinfo

    async def getaddrinfo(loop: asyncio.BaseEventLoop, host: Any, port: Any, **more: Any) -> list[Any]:
        found = [await ask(loop, each, port, **more) for each in ((FIRST, SECOND) if host == NAME else (host,))]
        return [one for each in found for one in each]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return free_port()


@asynccontextmanager
async def serving(query: PostgresAddress, address: str, inner: int) -> AsyncIterator[httpx.AsyncClient]:
    """A query API, and a client of its public port."""
    port, ops = free_port(), {"QUERY_API_OPS_HOST": address, "QUERY_API_OPS_PORT": str(inner)}
    variables = environment(KAFKA, Topics.model_construct(), query, query, **ops)
    async with (
        running(variables, "serve", "query", "--port", str(port), port=port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


async def looked(inner: int, after: float) -> Observation:
    """What the overview knows so many seconds after the first look, all else being well."""
    async with httpx.AsyncClient(trust_env=False) as http:
        found = await look_at_processes(http, f"http://{NAME}:{inner}", "muster_", (REQUEST_SECONDS,))
    known = replace(WELL, query_api=found.why, query_figures=found.figures, partly={"Query API": found.partly})
    return replace(known, at=WELL.at + timedelta(seconds=after))


def shown(*looks: Observation) -> Station:
    """The station of the query API."""
    found = stations(watched(*looks), looks[-1], findings(looks[-1]))
    return next(station for station in found if station.name == "Query API")


async def test_each_of_two_is_asked_and_one_that_is_away_is_named_and_no_failure(
    query_database: PostgresAddress, inner: int
) -> None:
    async with serving(query_database, SECOND, inner) as second:
        async with serving(query_database, FIRST, inner) as first:
            for _ in range(30):
                await second.get("/users")
            before = await looked(inner, 0)
            for client, requests in ((first, 5), (second, 20)):
                for _ in range(requests):
                    assert (await client.get("/users")).status_code == 200
            both = await looked(inner, 5)
        one = await looked(inner, 10)
    none = await looked(inner, 15)

    assert (shown(before, both).state, shown(before, both).words) == ("well", "ready")
    assert dict(shown(before, both).figures)["answers"] == "5 /s"
    assert shown(both, one).state == "well"
    assert shown(both, one).words.startswith(f"1 of 2 not ready: http://{FIRST}:{inner} does not answer")
    assert dict(shown(both, one).figures)["answers"] == "0 /s", "and none of the other's"
    assert findings(one) == []
    assert shown(one, none).state == "not well"
    assert f"http://{FIRST}:{inner} does not answer" in findings(none)[0].why

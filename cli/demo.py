"""`muster demo`: registers users over HTTP, watches their events, reads them back, and shows how long each took."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, Final

import httpx
import typer
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from chassis.lifecycle import wait_at_most
from chassis.postgres.database import describe
from chassis.settings import load
from cli.access.address import CommandApiAddress
from cli.access.bearer import REMEDY, NoTokenError, bearer_for
from cli.events.reading import TailSettings, following
from cli.terminal.output import JsonOption, fail, print_json
from events.catalogue import short_name
from events.envelope import read_envelope

#: An event or a read may take so long before the demo says that something is wrong.
PATIENCE_SECONDS: Final = 30.0
#: The query API may wait so long for the user to be there.
WAIT_SECONDS: Final = 10


class DemoSettings(TailSettings, CommandApiAddress):
    """The addresses of the command API and the topic."""


@dataclass(frozen=True, slots=True)
class Journey:
    """One user's way through Muster; times are in milliseconds since the command's answer, so since its commit."""

    user_id: str
    username: str
    event: str
    partition: int
    offset: int
    event_ms: float
    visible_ms: float


def demo(
    users: Annotated[int, typer.Option(min=1, max=1000, help="How many users to register.")] = 10,
    *,
    as_json: JsonOption = False,
) -> None:
    """Register users, show each event as it appears on the topic, and read each user back with its token."""
    settings = load(DemoSettings)
    console = Console(stderr=as_json, highlight=False)
    try:
        journeys = asyncio.run(_run(settings, users, console))
    except NoTokenError as error:
        fail(str(error), code=2)
    except httpx.HTTPError as error:
        fail(f"{_server(error)} does not answer ({describe(error)}). Is the stack running? Start it with `make up`.")
    except (KafkaError, OSError, TimeoutError) as error:
        where = settings.kafka_bootstrap_servers
        fail(f"Kafka at {where} does not answer ({describe(error)}). Is the stack running? Start it with `make up`.")
    if as_json:
        print_json(_summary(journeys) | {"users": [asdict(journey) for journey in journeys]})
    else:
        _show(console, journeys)


def _client(settings: DemoSettings) -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False, auth=bearer_for(settings.public_command_url))


async def _run(settings: DemoSettings, users: int, console: Console) -> list[Journey]:
    async with _client(settings) as http, _watching(settings, console) as events:
        run = secrets.token_hex(3)
        # One is not measured: first requests open connections and warm caches.
        await _journey(http, settings, events, f"demo-{run}-warm-up")
        return [await _journey(http, settings, events, f"demo-{run}-{number:03}") for number in range(1, users + 1)]


async def _journey(http: httpx.AsyncClient, settings: DemoSettings, events: FirstEvents, username: str) -> Journey:
    body = {"email": f"{username}@example.com", "username": username, "password": secrets.token_urlsafe(16)}
    answer = await http.post(f"{settings.public_command_url}/users", json=body)
    committed = time.perf_counter()
    if answer.status_code != 201:
        fail(_refusal("command", answer))
    user_id = answer.json()["id"]
    read, (record, arrived) = await asyncio.gather(
        _read(http, answer.headers["Location"], answer.headers["Consistency-Token"]), events.of(user_id)
    )
    return Journey(
        user_id,
        username,
        short_name(read_envelope(record.headers).type),
        record.partition,
        record.offset,
        # The event may be there before the answer has been parsed here.
        max(0.0, arrived - committed) * 1000,
        (read - committed) * 1000,
    )


async def _read(http: httpx.AsyncClient, location: str, token: str) -> float:
    answer = await http.get(location, headers={"Consistency-Token": token, "Prefer": f"wait={WAIT_SECONDS}"})
    visible = time.perf_counter()
    if answer.status_code != 200:
        fail(_refusal("query", answer))
    return visible


def _refusal(api: str, answer: httpx.Response) -> str:
    remedy = f" {REMEDY}." if answer.status_code in {401, 403} else ""
    return f"The {api} API answered {answer.status_code}: {answer.text}.{remedy}"


class FirstEvents:
    """Each user's first event, and when it arrived."""

    def __init__(self) -> None:
        """None has arrived yet."""
        self._futures: dict[str, asyncio.Future[tuple[ConsumerRecord, float]]] = {}

    def add(self, record: ConsumerRecord) -> None:
        """Note a record that has just arrived."""
        future = self._future(record.key.decode())
        if not future.done():
            future.set_result((record, time.perf_counter()))

    async def of(self, user_id: str) -> tuple[ConsumerRecord, float]:
        """Wait for the first record of this user; return it with its time of arrival.

        Raises:
            TimeoutError: none arrived within PATIENCE_SECONDS.
        """
        return await wait_at_most(self._future(user_id), PATIENCE_SECONDS)

    def _future(self, user_id: str) -> asyncio.Future[tuple[ConsumerRecord, float]]:
        return self._futures.setdefault(user_id, asyncio.get_running_loop().create_future())


@asynccontextmanager
async def _watching(settings: DemoSettings, console: Console) -> AsyncIterator[FirstEvents]:
    events = FirstEvents()
    async with following(settings, "now") as consumer:
        watching = asyncio.create_task(_watch(consumer, events, console))
        try:
            yield events
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _watch(consumer: AIOKafkaConsumer, events: FirstEvents, console: Console) -> None:
    async for record in consumer:
        events.add(record)
        envelope = read_envelope(record.headers)
        console.print(
            f"[cyan]{record.topic}[/cyan] {record.partition}:{record.offset}"
            f"  [green]{short_name(envelope.type)}[/green]  {envelope.subject_id}  version {envelope.version}"
        )


def _show(console: Console, journeys: list[Journey]) -> None:
    table = Table(title="Milliseconds from the command's answer, which leaves after the commit")
    for heading in ("User", "Event", "Offset"):
        table.add_column(heading, no_wrap=True)
    for heading in ("commit→event", "commit→visible"):
        table.add_column(heading, justify="right", no_wrap=True)
    for journey in journeys:
        table.add_row(
            journey.username,
            journey.event,
            f"{journey.partition}:{journey.offset}",
            f"{journey.event_ms:.1f}",
            f"{journey.visible_ms:.1f}",
        )
    console.print(table)
    summary = _summary(journeys)
    console.print(
        f"p50 commit→event {summary['commit_to_event_p50_ms']:.1f} ms,"
        f" commit→visible {summary['commit_to_visible_p50_ms']:.1f} ms"
    )


def _summary(journeys: list[Journey]) -> dict[str, object]:
    return {
        "commit_to_event_p50_ms": round(median(journey.event_ms for journey in journeys), 2),
        "commit_to_visible_p50_ms": round(median(journey.visible_ms for journey in journeys), 2),
    }


def _server(error: httpx.HTTPError) -> str:
    try:
        return f"{error.request.url.scheme}://{error.request.url.netloc.decode()}"
    except RuntimeError:
        return "The API"

"""One look at everything between a command and a query: what each part answers, or why it does not.

Each part is asked by itself and within LOOK_SECONDS (how far projections are, after Kafka, and processes, after they
were found, for once more as long), so one that hangs hides no other, and whatever a part answers or fails with is told
of that part: no look fails as a whole. How far projections are, and which relay leads, is told by the functions of
`muster lag`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import httpx

from chassis.clock import utc_now
from chassis.postgres.database import Database
from console.asking import LOOK_SECONDS, Failed, within
from console.overview.scrape import Scrape, scrape
from console.settings import ConsoleSettings
from outbox.figures import ask_relay, urls_of
from outbox.relay.backlog import Backlog, read_backlog
from outbox.relay.leadership import Leader, read_leader
from outbox.settings import RelayAddress
from projectors.operations import parked
from projectors.operations.lag import GenerationLag, Topics, look_at_topics, measure_against
from projectors.projections.catalogue import PROJECTIONS
from read_model import generations

_SERVING: Final = "serving"
REQUEST_SECONDS: Final = "muster_http_request_seconds"
PUBLISHED: Final = "muster_outbox_published_total"
PUBLISH_SECONDS: Final = "muster_outbox_publish_seconds"
APPLIED: Final = "muster_projector_records_total"
BATCH_SECONDS: Final = "muster_projector_batch_seconds"
SENT: Final = "muster_event_api_events_total"
STREAMS: Final = "muster_event_api_streams"
_API: Final = "muster_"
_ANSWERS: Final = (REQUEST_SECONDS,)


@dataclass(frozen=True, slots=True)
class Outbox:
    """The command side's backlog, and who publishes it."""

    backlog: Backlog
    leader: Leader | None


@dataclass(frozen=True, slots=True)
class Brokers:
    """The brokers' answer, and how long they took."""

    topics: Topics
    seconds: float


@dataclass(frozen=True, slots=True)
class ReadSide:
    """The read side, as the query database tells it without Kafka."""

    #: Records that wait for a person, in generations that serve.
    parked: int
    #: Projections of which no generation serves.
    unserved: Sequence[str]


#: Figures of the processes of a part, each by its URL; or why there are none of any.
Figures: TypeAlias = Mapping[str, Scrape] | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The findings of one look. A text says why no process of a part is ready; an empty one, that one is."""

    at: datetime
    command_api: str
    command_figures: Figures
    outbox: Outbox | Failed
    relay: str
    relay_figures: Figures
    kafka: Brokers | Failed
    read_side: ReadSide | Failed
    #: Not known without Kafka and the query database.
    generations: Sequence[GenerationLag] | Failed
    projectors: str
    projector_figures: Figures
    query_api: str
    query_figures: Figures
    event_api: str
    event_figures: Figures
    #: Of parts that are ready: how many of their processes are not, and why one is not.
    partly: Mapping[str, str] = field(default_factory=dict)

    @property
    def serving(self) -> Sequence[GenerationLag]:
        """The generations that queries read; none where they are not known."""
        known = [] if isinstance(self.generations, Failed) else self.generations
        return [each for each in known if each.status == _SERVING]


async def look(settings: ConsoleSettings, command: Database, query: Database, http: httpx.AsyncClient) -> Observation:
    """Ask every part at once."""
    projectors = f"http://{settings.projectors_http_host}:{settings.projectors_http_port}"
    async with asyncio.TaskGroup() as group:
        brokers = group.create_task(within(_ask_kafka(settings)))
        relay = group.create_task(look_at_relay(settings, http))
        asked: dict[str, Coroutine[Any, Any, Any]] = {
            "outbox": within(_read_outbox(command)),
            "read_side": within(_ask_read_side(query)),
            "generations": _measure(settings, query, brokers),
        }
        tasks = {name: group.create_task(work) for name, work in asked.items()}
        looks = [
            look_at_processes(http, settings.console_command_ops_url, _API, _ANSWERS),
            look_at_processes(http, projectors, "muster_projector_", (APPLIED, BATCH_SECONDS)),
            look_at_processes(http, settings.console_query_ops_url, _API, _ANSWERS),
            look_at_processes(http, settings.console_events_ops_url, _API, (*_ANSWERS, SENT, STREAMS)),
        ]
        parts = [group.create_task(work) for work in looks]
    found: dict[str, Any] = {name: task.result() for name, task in tasks.items()}
    found["relay"], found["relay_figures"] = relay.result()
    commands, feeds, queries, events = (task.result() for task in parts)
    return Observation(
        at=utc_now(),
        kafka=brokers.result(),
        command_api=commands.why,
        command_figures=commands.figures,
        projectors=feeds.why,
        projector_figures=feeds.figures,
        query_api=queries.why,
        query_figures=queries.figures,
        event_api=events.why,
        event_figures=events.figures,
        partly={
            "Command API": commands.partly,
            "Projectors": feeds.partly,
            "Query API": queries.partly,
            "Event API": events.partly,
        },
        **found,
    )


class Processes(NamedTuple):
    """The processes of a part: why none is ready, or how many of them are not or do not tell; and what they count."""

    why: str
    partly: str
    figures: Figures


async def look_at_processes(http: httpx.AsyncClient, url: str, known_by: str, names: tuple[str, ...]) -> Processes:
    """Ask every process of an inner port, where its name leads to several; the part is ready where one of them is.

    So an upgrade, which replaces one after the other, is none of the part's failures.
    """
    address = urlsplit(url)
    # A certificate is for the name, and not for the addresses that it leads to.
    named = address.hostname if address.scheme == "http" else None
    urls = await urls_of(named, address.port or 80) if named else [url]
    asked = ([_readiness(http, each) for each in urls], [within(scrape(http, each, known_by, names)) for each in urls])
    reasons, answers = await asyncio.gather(asyncio.gather(*asked[0]), asyncio.gather(*asked[1]))
    unready = [why for why in reasons if why]
    figures = {each: answer for each, answer in zip(urls, answers, strict=True) if not isinstance(answer, Failed)}
    failed = [answer for answer in answers if isinstance(answer, Failed)]
    if len(unready) == len(urls):
        return Processes(unready[0], "", figures or failed[0])
    partly = f"{len(unready)} of {len(urls)} not ready: {unready[0]}" if unready else ""
    if failed and not unready:
        partly = f"figures of {len(failed)} of {len(urls)} cannot be told: {failed[0].why}"
    return Processes("", partly, figures or failed[0])


async def look_at_relay(address: RelayAddress, http: httpx.AsyncClient) -> tuple[str, Figures]:
    """Why the relay that leads is not ready, and its figures; of several by one name another's, where none leads."""
    found = await within(ask_relay(address, http))
    if isinstance(found, Failed):
        return found.why, found
    asked = within(scrape(http, found.url, "muster_outbox_", (PUBLISHED, PUBLISH_SECONDS)))
    why, figures = await asyncio.gather(_readiness(http, found.url), asked)
    return why, figures if isinstance(figures, Failed) else {found.url: figures}


async def _ask_kafka(settings: ConsoleSettings) -> Brokers:
    begin = time.monotonic()
    return Brokers(await look_at_topics(settings), time.monotonic() - begin)


async def _measure(
    settings: ConsoleSettings, query: Database, brokers: Awaitable[Brokers | Failed]
) -> Sequence[GenerationLag] | Failed:
    known = await brokers
    if isinstance(known, Failed):
        return Failed("Kafka does not answer")
    return await within(measure_against(settings, query, known.topics))


async def _read_outbox(database: Database) -> Outbox:
    async with database.connection(LOOK_SECONDS) as connection:
        return Outbox(await read_backlog(connection), await read_leader(connection))


async def _ask_read_side(database: Database) -> ReadSide:
    async with database.connection(LOOK_SECONDS) as connection:
        unserved = [
            name
            for name in sorted(PROJECTIONS)
            if all(each.status != _SERVING for each in await generations.read(connection, name))
        ]
    return ReadSide(await parked.count_serving(database), unserved)


async def _readiness(http: httpx.AsyncClient, url: str) -> str:
    """Why the process of an inner port is not ready; a public port gives no reasons, and counts the question."""
    found = await within(http.get(f"{url}/readyz"))
    if isinstance(found, Failed):
        return f"{url} does not answer ({found.why})"
    if found.is_success:
        return ""
    try:
        checks: Mapping[str, str] = found.json()["checks"]
        reasons = [f"{name}: {why}" for name, why in checks.items() if why != "ok"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{url} answers {found.status_code}, and does not say why"
    return "; ".join(reasons) or "it says that it is not ready; its log says why"

"""One look at everything between a command and a query: what each part answers, or why it does not.

Each part is asked by itself and within LOOK_SECONDS, so one that hangs hides no other. The figures are those of `muster
lag`, by the same functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families

from chassis.clock import utc_now
from chassis.kafka.client import KAFKA_ERRORS
from chassis.kafka.refusals import REFUSALS, explain
from chassis.postgres.database import Database, DatabaseUnavailableError
from console.settings import ConsoleSettings
from outbox.figures import RelayFigures, ask_relay, quantiles
from outbox.relay.backlog import Backlog, read_backlog
from outbox.relay.leadership import Leader, read_leader
from projectors.operations import parked
from projectors.operations.lag import GenerationLag, measure

T = TypeVar("T")

#: For one part to answer. With the pause between two looks a cause is on an open page within ten seconds.
LOOK_SECONDS: Final = 4.0
_FAILURES: Final[tuple[type[Exception], ...]] = (
    *(DatabaseUnavailableError, asyncpg.PostgresError, httpx.HTTPError),
    *(*KAFKA_ERRORS, *REFUSALS),
)
_QUANTILES: Final = (0.5, 0.99)
_SERVING: Final = "serving"


@dataclass(frozen=True, slots=True)
class Failed:
    """A part that does not answer, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Outbox:
    """The command side's backlog, and who publishes it."""

    backlog: Backlog
    leader: Leader | None


@dataclass(frozen=True, slots=True)
class Projecting:
    """What one projectors process counts: records it took, and seconds of a batch by quantile; by generation."""

    records: Mapping[tuple[str, int], int]
    batch_seconds: Mapping[tuple[str, int], Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was found at a time. A text says why a part is not ready; an empty one, that it is."""

    at: datetime
    command_api: str
    query_api: str
    event_api: str
    outbox: Outbox | Failed
    relay: RelayFigures
    relay_ready: str
    #: Kafka is asked with them: what fails is Kafka, or the query database where `parked` fails too.
    generations: Sequence[GenerationLag] | Failed
    #: Records that wait for a person, in generations that serve.
    parked: int | Failed
    projectors: Projecting | Failed
    projectors_ready: str

    @property
    def serving(self) -> Sequence[GenerationLag]:
        """The generations that queries read; none where they are not known."""
        known = [] if isinstance(self.generations, Failed) else self.generations
        return [each for each in known if each.status == _SERVING]


async def look(settings: ConsoleSettings, command: Database, query: Database, http: httpx.AsyncClient) -> Observation:
    """Ask every part at once."""
    relay = f"http://{settings.relay_http_host}:{settings.relay_http_port}"
    projectors = f"http://{settings.projectors_http_host}:{settings.projectors_http_port}"
    answers = await asyncio.gather(
        _readiness(http, settings.console_command_url),
        _readiness(http, settings.console_query_url),
        _readiness(http, settings.console_events_url),
        _within(_read_outbox(command)),
        ask_relay(settings, http),
        _readiness(http, relay),
        _within(measure(settings, query)),
        _within(parked.count_serving(query)),
        _within(_ask_projectors(http, projectors)),
        _readiness(http, projectors),
    )
    return _observation(*answers)


def _observation(*answers: Any) -> Observation:
    names = (
        *("command_api", "query_api", "event_api", "outbox", "relay", "relay_ready"),
        *("generations", "parked", "projectors", "projectors_ready"),
    )
    return Observation(at=utc_now(), **dict(zip(names, answers, strict=True)))


async def _read_outbox(database: Database) -> Outbox:
    async with database.connection(LOOK_SECONDS) as connection:
        return Outbox(await read_backlog(connection), await read_leader(connection))


async def _ask_projectors(http: httpx.AsyncClient, url: str) -> Projecting:
    answer = await http.get(f"{url}/metrics")
    answer.raise_for_status()
    records: dict[tuple[str, int], int] = {}
    buckets: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == "muster_projector_records_total":
                records[_generation(sample.labels)] = int(sample.value)
            elif sample.name == "muster_projector_batch_seconds_bucket":
                known = buckets.setdefault(_generation(sample.labels), [])
                known.append((float(sample.labels["le"]), sample.value))
    return Projecting(records, {name: quantiles(known, _QUANTILES) for name, known in buckets.items()})


def _generation(labels: Mapping[str, str]) -> tuple[str, int]:
    return labels["projection"], int(labels["generation"])


async def _readiness(http: httpx.AsyncClient, url: str) -> str:
    """Why the process there is not ready; an inner port gives the reasons, a public one does not."""
    found = await _within(http.get(f"{url}/readyz"))
    if isinstance(found, Failed):
        return f"{url} does not answer ({found.why})"
    if found.is_success:
        return ""
    try:
        checks: Mapping[str, str] = found.json().get("checks", {})
    except ValueError:
        return f"{url} answers {found.status_code}"
    reasons = [f"{name}: {why}" for name, why in checks.items() if why != "ok"]
    return "; ".join(reasons) or "it says that it is not ready; its log says why"


async def _within(work: Awaitable[T]) -> T | Failed:
    """What comes of the work in time, or why nothing does."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await work
    except TimeoutError:
        return Failed(f"no answer within {LOOK_SECONDS:g} s")
    except _FAILURES as error:
        return Failed(explain(error))

"""`muster events refill`: fills the events topic from the command database, after it was lost, or a new one."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Final, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from chassis.clock import EPOCH, utc_now
from chassis.kafka.client import TopicMismatchError, partitions_of, refuse_other_partition_counts
from chassis.lifecycle import run_until_stopped
from chassis.postgres.database import Database
from chassis.settings import Kafka, Logging, OperatorCommandPostgres, Topics, load
from cli.terminal.operator import operator
from cli.terminal.outages import OUTAGES, explain_outage
from cli.terminal.output import JsonOption, counted, fail, print_json, say
from command_api.refill import CannotRefillError, Refill, Refilled
from command_api.republication import Operation
from outbox.publishing.topic_reading import is_empty
from outbox.topics import wanted_topics
from projectors.operations.topic_ends import TopicEnds, look_at_topic, topic_id_now

#: After so long without a word from the relay it is worth a look.
STALLED_SECONDS: Final = 10.0


class RefillSettings(OperatorCommandPostgres, Kafka, Topics, Logging):
    """The settings of this command."""


def refill(*, as_json: JsonOption = False) -> None:
    """Publish every living user's state once more, and the tombstones of the erased; returns when all is published.

    For a topic that was lost or shortened, or a new one. Commands go on meanwhile. A refill that was killed goes on
    where it was.
    """
    settings = load(RefillSettings)
    screen = Console(stderr=True)
    progress = Refilled()

    async def main(stopping: asyncio.Event) -> int:
        nonlocal progress
        there = await _look(settings)
        async with Database.open(settings.command_database, application="muster-refill") as database:
            work = Refill(
                database, settings.events_topic, there.id, look=lambda: topic_id_now(settings, settings.events_topic),
                erased_since=await _erased_since(settings), operation=Operation(operator()),
            )  # fmt: skip
            progress = work.progress
            with _Bar(screen, visible=not as_json and screen.is_terminal) as bar:
                return 0 if await work.run(stopping, bar.show) else 1

    try:
        code = run_until_stopped(main)
    except (CannotRefillError, TopicMismatchError) as error:
        fail(str(error))
    except OUTAGES as error:
        explain_outage(error)
    if code:
        fail("stopped; `muster events refill` goes on from here", code=code)
    if as_json:
        print_json({"topic": settings.events_topic, "published": progress.appended})
    else:
        say(
            f"{settings.events_topic}: the state of {counted(progress.appended, 'user')} published, the erased included"
        )


async def _look(settings: RefillSettings) -> TopicEnds:
    """The topic as it is there.

    Raises:
        TopicMismatchError: it has other partitions than the settings say.
        UnknownTopicOrPartitionError: there is none.
        KafkaError, OSError, TimeoutError: no broker answered, or none lets us look.
    """
    topic = settings.events_topic
    refuse_other_partition_counts(wanted_topics(settings), {topic: await partitions_of(settings, topic)})
    there = await look_at_topic(settings, topic, settings.topic_partitions)
    assert there is not None, "its partitions were counted"
    return there


async def _erased_since(settings: RefillSettings) -> datetime:
    """The time since which the erased get tombstones.

    A topic with records may hold anybody's, so everybody does. On an empty topic a consumer needs those alone that it
    would still find in the old one.
    """
    if not await is_empty(settings, settings.events_topic, settings.topic_partitions):
        return EPOCH
    kept = settings.topic_max_compaction_lag_ms + settings.topic_delete_retention_ms
    return utc_now() - timedelta(milliseconds=kept)


class _Bar:
    """Progress on a terminal; elsewhere one line when the relay seems to be away."""

    def __init__(self, screen: Console, *, visible: bool) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} users appended"), TimeElapsedColumn())
        self._screen = screen
        self._bar = Progress(*columns, console=screen, disable=not visible)
        self._task = self._bar.add_task("refill", total=None)
        self._told = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Refilled) -> None:
        self._bar.update(self._task, completed=progress.appended)
        since = progress.stalled_since
        if since is not None and time.monotonic() - since > STALLED_SECONDS and not self._told:
            self._screen.print(
                f"{counted(progress.waiting, 'event')} wait in the outbox, and none was published for"
                f" {STALLED_SECONDS:g} s: see whether a relay runs, and what it logs"
            )
            self._told = True

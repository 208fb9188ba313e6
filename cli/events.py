"""`muster events`: shows the events as any read_committed subscriber sees them, describes and repeats them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from rich.console import Console
from rich.text import Text

from chassis import __version__
from chassis.kafka.client import KAFKA_ERRORS, REQUEST_SECONDS, client_arguments, partitions_of
from chassis.settings import Kafka, Topics, load
from cli.refill import refill
from cli.terminal.outages import explain_outage
from cli.terminal.output import legible, print_json, say
from events.asyncapi import describe_topic
from events.catalogue import short_name
from events.envelope import EnvelopeError, read_envelope
from events.user_events import USER_EVENTS
from outbox.topics import wanted_topics

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Look at the published events.", rich_markup_mode="rich"
)
app.command()(refill)


@app.callback()
def events() -> None:
    """Look at the published events."""


class TailSettings(Kafka, Topics):
    """The settings of this command."""


@app.command()
def tail(
    *,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Everything that is still there.")] = False,
    user: Annotated[UUID | None, typer.Option(help="Only this user's events, by id.", metavar="ID")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: envelope and data.")] = False,
) -> None:
    """Show each event as it is published, until Ctrl-C."""
    settings = load(TailSettings)
    console = Console(highlight=False, soft_wrap=True)
    show: Callable[[ConsumerRecord], None] = _print_json if as_json else lambda record: console.print(_line(record))
    try:
        asyncio.run(_tail(settings, user, show, from_beginning=from_beginning))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except BrokenPipeError:  # `muster events tail | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KAFKA_ERRORS as error:
        explain_outage(error)


@app.command()
def asyncapi() -> None:
    """Print the AsyncAPI 3.0 document of the topic: every event with its key, headers and value."""
    settings = load(Topics)
    [topic] = [topic for topic in wanted_topics(settings) if topic.name == settings.events_topic]
    print_json(
        describe_topic(
            USER_EVENTS,
            version=__version__,
            topic=topic.name,
            partitions=topic.partitions,
            replicas=topic.replication_factor,
            configs=topic.configs,
        )
    )


async def _tail(
    settings: TailSettings, user: UUID | None, show: Callable[[ConsumerRecord], None], *, from_beginning: bool
) -> None:
    async with following(settings, from_beginning=from_beginning) as consumer:
        async for record in consumer:
            if user is None or record.key == str(user).encode():
                show(record)


@asynccontextmanager
async def following(settings: TailSettings, *, from_beginning: bool) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a read_committed consumer of every partition, in no group, at the end (or the beginning) of the topic.

    Raises:
        UnknownTopicOrPartitionError, TopicAuthorizationFailedError: there is no such topic, or we may not read it.
        KafkaError, OSError, TimeoutError: no broker answered in time.
    """
    await partitions_of(settings, settings.events_topic)
    consumer = AIOKafkaConsumer(
        **client_arguments(settings), isolation_level="read_committed", enable_auto_commit=False
    )
    try:
        await asyncio.wait_for(consumer.start(), REQUEST_SECONDS)
        partitions = [TopicPartition(settings.events_topic, number) for number in range(settings.topic_partitions)]
        consumer.assign(partitions)
        seek = consumer.seek_to_beginning if from_beginning else consumer.seek_to_end
        await asyncio.wait_for(seek(*partitions), REQUEST_SECONDS)
        for partition in partitions:
            await asyncio.wait_for(consumer.position(partition), REQUEST_SECONDS)
        yield consumer
    finally:
        await asyncio.wait_for(consumer.stop(), REQUEST_SECONDS)


def _line(record: ConsumerRecord) -> Text:
    when = datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(timespec="milliseconds")
    line = Text.assemble((when.replace("+00:00", "Z"), "dim"), f"  {record.partition}:{record.offset}  ")
    try:
        envelope = read_envelope(record.headers)
    except EnvelopeError as error:
        return line.append(legible(f"no event of ours: {error}"), "red")
    line.append(legible(short_name(envelope.type)), "green")
    line.append(f"  {envelope.subject_id}  version {envelope.version}")
    line.append(f"  by {envelope.actor}" if envelope.actor else "")
    return line.append(f" for {envelope.on_behalf_of}" if envelope.on_behalf_of else "")


def _print_json(record: ConsumerRecord) -> None:
    headers = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    say(
        json.dumps(
            {"partition": record.partition, "offset": record.offset, "headers": headers, "data": _data(record.value)},
            ensure_ascii=False,
        )
    )


def _data(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return {"undecodable": value.decode(errors="replace")}

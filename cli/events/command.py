"""`muster events`: its commands and their options."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

import typer
from aiokafka import ConsumerRecord

from chassis import __version__
from chassis.clock import milliseconds, read_rfc3339
from chassis.identifiers import read_id
from chassis.kafka.client import KAFKA_ERRORS
from chassis.settings import Topics, load
from cli.events.reading import Beginning, TailSettings, find, following
from cli.events.refill import refill
from cli.events.showing import as_line, as_object, show_record, terminal
from cli.terminal.outages import explain_outage
from cli.terminal.output import JsonOption, fail, legible, print_json, say_json
from events.asyncapi import describe_topic
from events.catalogue import short_name
from events.schemas import event_schemas
from events.user_events import USER_EVENTS
from outbox.topics import wanted_topics

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Look at the published events.", rich_markup_mode="rich"
)
app.command()(refill)


@app.callback()
def events() -> None:
    """Look at the published events."""


@app.command()
def tail(
    *,
    user: Annotated[UUID | None, typer.Option(help="Only this user's events, by id.", metavar="ID")] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only events of this type; may be repeated.", metavar="T"),
    ] = None,
    beginning: Annotated[
        str, typer.Option("--from", metavar="beginning|now|TIME", help="What was published from then on.")
    ] = "now",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: envelope and data.")] = False,
) -> None:
    """Show each event as it is published, until Ctrl-C."""
    wanted, where = {_known_type(each).encode() for each in types or ()}, _beginning(beginning)
    settings = load(TailSettings)
    console = terminal()
    show: Callable[[ConsumerRecord], None] = (
        (lambda record: say_json(as_object(record, time.time())))
        if as_json
        else lambda record: console.print(as_line(record, time.time()))
    )

    async def work() -> None:
        async with following(settings, where) as consumer:
            async for record in consumer:
                if _is_wanted(record, user, wanted):
                    show(record)

    with _reading():
        asyncio.run(work())


@app.command()
def show(
    ce_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id, its header ce_id.", show_default=False)],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one event: where it is, its headers, its value."""
    try:
        event_id = read_id(ce_id)
    except ValueError:
        fail(
            f"{legible(ce_id)} is no event's id: give a ce_id, a UUID such as `muster events tail --json` shows.",
            code=2,
        )
    settings = load(TailSettings)
    with _reading():
        record = asyncio.run(find(settings, event_id))
    if record is None:
        fail(
            f"No record of {settings.events_topic} has the ce_id {event_id}: Kafka forgets what it has compacted, and"
            " whoever was erased. `muster events tail --from beginning --user ID` shows what is there of a user."
        )
    if as_json:
        print_json(as_object(record, time.time()))
    else:
        show_record(terminal(), record)


@app.command()
def schema(
    type_: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="An event's type; all without.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON Schema of a type's value, or those of all types by type."""
    schemas = event_schemas(USER_EVENTS)
    print_json(schemas if type_ is None else schemas[_known_type(type_)])


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


def _known_type(text: str) -> str:
    """The type of that name, whole or short; end with exit code 2 where there is none."""
    known = {name: type_ for type_ in USER_EVENTS.types() for name in (type_, short_name(type_))}
    if text not in known:
        fail(
            f"{legible(text)} is no type of event: it is one of {', '.join(USER_EVENTS.types())}, or the short name of"
            " one, such as registered.",
            code=2,
        )
    return known[text]


def _beginning(text: str) -> Beginning:
    """The place to begin, a time in milliseconds since 1970; end with exit code 2 where the text is none."""
    if text == "beginning":
        return "beginning"
    if text == "now":
        return "now"
    try:
        return milliseconds(read_rfc3339(text))
    except ValueError as error:
        fail(f"--from is `beginning`, `now` or a time, and {legible(text)} is none of them: a time {error}.", code=2)


def _is_wanted(record: ConsumerRecord, user: UUID | None, types: set[bytes]) -> bool:
    if user is not None and record.key != str(user).encode():
        return False
    return not types or any(name == "ce_type" and value in types for name, value in record.headers)


@contextmanager
def _reading() -> Iterator[None]:
    """End with the exit code that goes with how the reading ended."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except BrokenPipeError:  # `muster events tail | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KAFKA_ERRORS as error:
        explain_outage(error)

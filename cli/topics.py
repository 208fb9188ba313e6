"""`muster topics`: creates the topics that are missing, checks and configures the others, and says who may use them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from aiokafka.errors import SecurityDisabled, UnknownTopicOrPartitionError

from chassis.kafka.acls import Acl, create_acls, readers_of_groups
from chassis.kafka.client import KAFKA_ERRORS, Topic, TopicMismatchError, admin, delete_topic, ensure_topics
from chassis.kafka.refusals import explain
from chassis.postgres.database import session
from chassis.settings import Kafka, OperatorCommandPostgres, load
from cli.kafka_rights import Principals, SharedGroupsError, TopicsSettings, refuse_shared_groups, rights
from cli.terminal.outages import DATABASE_OUTAGES, explain_outage
from cli.terminal.output import JsonOption, counted, fail, print_json, say
from outbox.published_topics import published_last
from outbox.topics import wanted_topics


class DeletionSettings(TopicsSettings, OperatorCommandPostgres):
    """What a deletion needs to know: which topic the relay publishes to is in the command database."""


def _who(does: str) -> object:
    return typer.Option(metavar="PRINCIPAL", help=f"With --acls: who {does}.", show_default=False)


def topics(  # noqa: PLR0913 - each is an option of the command
    *,
    acls: Annotated[bool, typer.Option("--acls", help="Give those named below the rights they need.")] = False,
    relay: Annotated[str, _who("publishes")] = "",
    projectors: Annotated[str, _who("keeps the read tables")] = "",
    events: Annotated[str, _who("serves the events over HTTP")] = "",
    subscriber: Annotated[list[str] | None, _who("reads the events; may be repeated")] = None,
    delete: Annotated[
        str,
        typer.Option("--delete", metavar="TOPIC", help="Delete this one, which is not in use, and do nothing else."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --acls: print them and change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Create the topics that are missing and set the configuration of those that are there.

    The number of partitions never changes: where it differs from the settings this command refuses. With --acls it adds
    the rights that each part needs; it takes none away.
    """
    named = Principals(relay=relay, projectors=projectors, events=events, subscribers=subscriber or ())
    _require_matching(named, acls=acls, dry_run=dry_run)
    if delete:
        _delete(load(DeletionSettings), delete)
        return
    settings = load(TopicsSettings)
    try:
        allowed = rights(named, settings) if acls else []
    except ValueError as error:
        fail(f"{error}.", code=2)
    wanted = wanted_topics(settings)
    created = [] if dry_run else _apply(settings, wanted, allowed)
    if as_json:
        shown = [{"topic": t.name, "partitions": t.partitions, "created": t.name in created} for t in wanted]
        print_json({"topics": shown, "acls": [str(acl) for acl in allowed]} if acls else shown)
        return
    if not dry_run:
        for topic in wanted:
            done = "created" if topic.name in created else "checked"
            say(f"{topic.name}: {counted(topic.partitions, 'partition')}, {done}")
    if settings.events_topic in created:
        say(
            f"If there was a topic {settings.events_topic} before, this one is another log: projectors that have read"
            " the old one refuse it within 15 s and say so in `muster lag`; the relay publishes to it what happens from"
            " now on."
        )
    for acl in allowed:
        say(str(acl))


def _require_matching(named: Principals, *, acls: bool, dry_run: bool) -> None:
    """End with exit code 2 where --acls lacks a name, or a name lacks --acls."""
    roles = {"--relay": named.relay, "--projectors": named.projectors, "--events": named.events}
    missing = [option for option, name in roles.items() if not name]
    if acls and missing:
        fail(f"--acls needs {' and '.join(missing)}: name the principals with which these log in.", code=2)
    if not acls and (dry_run or named.subscribers or len(missing) < len(roles)):
        fail("--relay, --projectors, --events, --subscriber and --dry-run go with --acls.", code=2)


def _delete(settings: DeletionSettings, topic: str) -> None:
    """Delete a topic that nothing of ours uses; end with exit code 1 if that fails, with 2 if it is in use."""
    if topic in {settings.events_topic, settings.relay_topic}:
        fail(f"{topic} is in use (EVENTS_TOPIC, RELAY_TOPIC): only a topic that is not can be deleted here.", code=2)
    try:
        if not asyncio.run(_delete_unless_published(settings, topic)):
            fail(
                f"{topic} is in use: the relay publishes to it, whatever EVENTS_TOPIC is here. Once a relay has begun"
                f" to lead with another EVENTS_TOPIC, it can be deleted.",
                code=2,
            )
    except DATABASE_OUTAGES as error:
        explain_outage(error)
    except UnknownTopicOrPartitionError:
        fail(f"There is no topic {topic}.")
    except KAFKA_ERRORS as error:
        fail(f"Kafka at {settings.kafka_bootstrap_servers} did not do it: {explain(error)}")
    say(f"{topic}: deleted")


async def _delete_unless_published(settings: DeletionSettings, topic: str) -> bool:
    """Delete a topic; False where the relay publishes to it."""
    async with session(settings.command_database, application="muster topics") as connection:
        if await published_last(connection) == topic:
            return False
    async with admin(settings) as client:
        await delete_topic(client, topic)
    return True


def _apply(settings: Kafka, wanted: list[Topic], allowed: Sequence[Acl]) -> list[str]:
    """Make topics and rights, and return the names of the topics that were made; end with exit code 1 if that fails."""
    where = settings.kafka_bootstrap_servers
    try:
        return asyncio.run(_ensure(settings, wanted, allowed))
    except TopicMismatchError as error:
        fail(str(error))
    except SharedGroupsError as error:
        fail(f"{error}.", code=2)
    except SecurityDisabled:
        fail(
            f"Kafka at {where} has no authorizer, so anybody may do anything, and ACLs mean nothing:"
            " set authorizer.class.name and super.users in the brokers' configuration."
        )
    except KAFKA_ERRORS as error:
        fail(f"Kafka at {where} did not do it: {explain(error)}")


async def _ensure(settings: Kafka, wanted: list[Topic], allowed: Sequence[Acl]) -> list[str]:
    async with admin(settings) as client:
        if allowed:
            refuse_shared_groups(allowed, await readers_of_groups(client))
        created = await ensure_topics(client, wanted)
        if allowed:
            await create_acls(client, allowed)
    return created

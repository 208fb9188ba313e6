"""Which rights on the brokers each part of Muster needs, and no more: what `muster topics --acls` applies.

READ and WRITE bring DESCRIBE with them. Nobody but the relay may write the topics or use its transactional ids: so what
is on the events topic is the relay's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chassis.kafka.acls import ANY_NAME, Acl, AclOperation, Pattern, Resource
from chassis.settings import Kafka, Logging, Topics
from outbox.settings import RelayName
from projectors.settings import ProjectorsGroup

_KIND = "User:"


class TopicsSettings(Kafka, Topics, RelayName, ProjectorsGroup, Logging):
    """The settings of `muster topics`."""


class SharedGroupsError(ValueError):
    """A subscriber could commit another one's offsets, and have it miss events; the message names both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """Who does what, as the brokers know them."""

    relay: str
    projectors: str
    events: str
    subscribers: Sequence[str] = field(default=())


def principal(name: str) -> str:
    """The principal of that name, `User:` before it or not.

    Raises:
        ValueError: it names nobody, or everybody.
    """
    plain = name.removeprefix(_KIND)
    if not plain.strip() or plain == "*":
        raise ValueError(f"{name!r} names no principal: give the name with which it logs in")
    return _KIND + plain


def rights(principals: Principals, settings: TopicsSettings) -> list[Acl]:
    """Return every right, the relay's first.

    Raises:
        ValueError: a name names nobody, or everybody, or a subscriber's groups would be somebody else's, too.
    """
    relay, projectors = principal(principals.relay), principal(principals.projectors)
    events, log = settings.events_topic, settings.relay_topic
    topic, group = Resource.TOPIC, Resource.GROUP
    reader = principal(principals.events)
    acls = [
        Acl(relay, AclOperation.WRITE, Resource.TRANSACTIONAL_ID, settings.publishing_id),
        Acl(relay, AclOperation.WRITE, Resource.TRANSACTIONAL_ID, settings.maintenance_id),
        Acl(relay, AclOperation.WRITE, topic, events),
        Acl(relay, AclOperation.READ, topic, events),
        Acl(relay, AclOperation.DESCRIBE_CONFIGS, topic, events),
        Acl(relay, AclOperation.WRITE, topic, log),
        Acl(relay, AclOperation.READ, topic, log),
        Acl(projectors, AclOperation.READ, topic, events),
        Acl(projectors, AclOperation.READ, group, f"{settings.projectors_group}.", Pattern.PREFIXED),
        Acl(reader, AclOperation.READ, topic, events),
        # A subscriber may name any group, whose committed offsets its receipts are then made of.
        Acl(reader, AclOperation.DESCRIBE, group, ANY_NAME),
    ]
    for subscriber in map(principal, principals.subscribers):
        own = subscriber.removeprefix(_KIND)
        if f"{settings.projectors_group}.".startswith(f"{own}.") or own.startswith(f"{settings.projectors_group}."):
            raise ValueError(f"{own!r} as a subscriber would have the projectors' groups (PROJECTORS_GROUP): rename it")
        acls += [
            Acl(subscriber, AclOperation.READ, topic, events),
            # Groups of its own: its name, and what begins with its name and a point.
            Acl(subscriber, AclOperation.READ, group, own),
            Acl(subscriber, AclOperation.READ, group, f"{own}.", Pattern.PREFIXED),
        ]
    refuse_shared_groups(acls, acls)
    return acls


def refuse_shared_groups(wanted: Iterable[Acl], others: Iterable[Acl]) -> None:
    """Make sure that no subscriber among the wanted rights shares a group with a principal of the others.

    Raises:
        SharedGroupsError: `news` may read in all groups that begin with `news.`, so in those of `news.letters`, too.
    """
    readers = [acl for acl in others if acl.resource is Resource.GROUP and acl.operation is not AclOperation.DESCRIBE]
    for acl in wanted:
        # Only a subscriber has one group by its whole name.
        if (acl.resource, acl.operation, acl.pattern) != (Resource.GROUP, AclOperation.READ, Pattern.LITERAL):
            continue
        for reader in readers:
            if reader.principal != acl.principal and _overlap(acl.name, reader):
                raise SharedGroupsError(
                    f"{acl.name!r} as a subscriber would share groups with {reader.principal} ({reader}), and either"
                    " could commit the other's offsets: rename it"
                )


def _overlap(own: str, reader: Acl) -> bool:
    """Whether the reader may read the group `own`, or one that begins with it and a point."""
    begins = f"{own}."
    if reader.pattern is Pattern.PREFIXED and begins.startswith(reader.name):
        return True
    return reader.name == own or reader.name.startswith(begins)

"""Rights at brokers with an authorizer: access control lists, added and read by requests of our own.

aiokafka's admin client has neither request, so its connections carry them (docs/decisions/0017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest

from chassis.kafka.client import REQUEST_SECONDS
from chassis.lifecycle import wait_at_most

#: Every resource of a kind.
ANY_NAME: Final = "*"
#: Every host; who may connect from where is for networks to decide.
_ANY_HOST: Final = "*"
_ALLOW: Final = 3
_ANY_OPERATION: Final = 1
#: A filter finds every pattern, or every one that the name falls under.
_ANY_PATTERN: Final = 1
_MATCHING: Final = 2


class Resource(IntEnum):
    """The kind of thing that a right is about, by its number in the protocol."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class AclOperation(IntEnum):
    """The deed that is allowed; READ and WRITE bring DESCRIBE with them."""

    ALL = 2
    READ = 3
    WRITE = 4
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


class Pattern(IntEnum):
    """Whether a name is meant, or every name that begins so."""

    LITERAL = 3
    PREFIXED = 4


@dataclass(frozen=True, slots=True)
class Acl:
    """One right of one principal, such as `User:relay`."""

    principal: str
    operation: AclOperation
    resource: Resource
    name: str
    pattern: Pattern = Pattern.LITERAL

    def __str__(self) -> str:
        """`User:relay may WRITE topic users.events`."""
        star = "*" if self.pattern is Pattern.PREFIXED else ""
        what = self.resource.name.lower().replace("_", " ")
        return f"{self.principal} may {self.operation.name} {what} {self.name}{star}"


class _CreateAcls(CreateAclsRequest):  # type: ignore[misc] # aiokafka has no types
    """aiokafka's creates one right; the protocol allows many."""

    def __init__(self, acls: Sequence[Acl]) -> None:
        self._rows = [
            (acl.resource, acl.name, acl.pattern, acl.principal, _ANY_HOST, acl.operation, _ALLOW) for acl in acls
        ]

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._rows)


async def create_acls(client: AIOKafkaAdminClient, acls: Sequence[Acl]) -> None:
    """Allow all of this; what is allowed already stays so.

    Raises:
        SecurityDisabled: the brokers have no authorizer, so anybody may do anything.
        KafkaError, OSError, TimeoutError: a broker refuses, or none answers.
    """
    answer = await _send(client, _CreateAcls(acls))
    for code, message in answer.creation_responses:
        if code:
            raise for_code(code)(message or "")


async def allowed_on(client: AIOKafkaAdminClient, resource: Resource, name: str) -> list[tuple[str, int]]:
    """Each ACL that allows something on it: a principal and the number of an operation. Superusers need none.

    Raises:
        SecurityDisabled: the brokers have no authorizer, so anybody may do anything.
        ClusterAuthorizationFailedError: this principal may not look.
        KafkaError, OSError, TimeoutError: no broker answers.
    """
    found = await _describe(client, resource, name, _MATCHING)
    return [(who, operation) for *_, acls in found for who, _, operation, _ in acls]


async def readers_of_groups(client: AIOKafkaAdminClient) -> list[Acl]:
    """Each ACL that lets a principal read in groups of consumers, and so commit their offsets.

    Raises:
        The same as `allowed_on`.
    """
    return [
        Acl(who, AclOperation(operation), Resource.GROUP, name, Pattern(pattern))
        for _, name, pattern, acls in await _describe(client, Resource.GROUP, None, _ANY_PATTERN)
        for who, _, operation, _ in acls
        if operation in {AclOperation.READ, AclOperation.ALL}
    ]


async def _describe(client: AIOKafkaAdminClient, resource: Resource, name: str | None, pattern: int) -> Any:
    request = DescribeAclsRequest(resource, name, pattern, None, None, _ANY_OPERATION, _ALLOW)
    answer = await _send(client, request)
    if answer.error_code:
        raise for_code(answer.error_code)(answer.error_message or "")
    return answer.resources


async def _send(client: AIOKafkaAdminClient, request: Any) -> Any:
    connections = client._client  # noqa: SLF001 - as said above
    return await wait_at_most(connections.send(connections.get_random_node(), request), REQUEST_SECONDS)

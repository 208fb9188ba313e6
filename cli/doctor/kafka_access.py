"""The check of who may write to the events topic: records are not signed, so read tables say what is written there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ClusterAuthorizationFailedError, SecurityDisabled

from chassis.kafka.acls import Operation, allowed_on_topic
from cli.doctor.findings import Finding

#: What makes brokers let everybody do everything to what no ACL names.
OPEN_WITHOUT_ACL: Final = "allow.everyone.if.no.acl.found"
#: Whoever logs in, and whoever does not.
EVERYBODY: Final = frozenset({"User:*", "User:ANONYMOUS"})

_REMEDY: Final = "`muster topics --acls` names who may; docs/how-to/run-in-production.md says what brokers need for it"


async def examine_writers(client: AIOKafkaAdminClient, topic: str, configs: Mapping[str, str | None]) -> Finding:
    """Find out whether anybody may write to the topic; `configs` are the broker's, as far as we may look."""
    check = f"writers of {topic}"
    try:
        allowed = await allowed_on_topic(client, topic)
    except SecurityDisabled:
        return Finding(check, "warning", "anybody who reaches the brokers: they have no authorizer", _REMEDY)
    except ClusterAuthorizationFailedError:
        remedy = "run doctor as a principal that may DESCRIBE the cluster"
        return Finding(check, "warning", "not known: this principal may not look at the ACLs", remedy)
    return judge_writers(check, allowed, configs)


def judge_writers(check: str, allowed: list[tuple[str, int]], configs: Mapping[str, str | None]) -> Finding:
    """Judge by the ACLs of the topic and, only where there are none, by what the brokers do then."""
    # Brokers may keep the value to themselves.
    if not allowed and configs.get(OPEN_WITHOUT_ACL, "false") != "false":
        return Finding(
            check, "warning", f"anybody, unless {OPEN_WITHOUT_ACL} is false: no ACL names the topic", _REMEDY
        )
    writers = {who for who, operation in allowed if operation in (Operation.ALL, Operation.WRITE)}
    if everybody := sorted(writers & EVERYBODY):
        remedy = "remove that ACL with kafka-acls.sh: whoever writes there makes read tables say anything"
        return Finding(check, "warning", f"anybody: an ACL allows it to {', '.join(everybody)}", remedy)
    return Finding(check, "ok", ", ".join([*sorted(writers), "the brokers' superusers"]))

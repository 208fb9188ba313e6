"""The checks of who may write what only the relay should: to both topics, and with its transactional ids.

Records are not signed, so read tables say what is on the events topic, and a relay that starts believes its own record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ClusterAuthorizationFailedError, SecurityDisabled

from chassis.kafka.acls import AclOperation, Resource, allowed_on
from cli.doctor.findings import Finding
from outbox.settings import RelaySettings

#: With this setting brokers let everybody do everything to what no ACL names.
OPEN_WITHOUT_ACL: Final = "allow.everyone.if.no.acl.found"
#: Whoever logs in, and whoever does not.
EVERYBODY: Final = frozenset({"User:*", "User:ANONYMOUS"})

_REMEDY: Final = (
    "`muster topics --acls --relay NAME --projectors NAME --events NAME` gives each its rights;"
    " docs/how-to/run-in-production.md says what brokers need for it"
)


async def examine_writers(
    client: AIOKafkaAdminClient, settings: RelaySettings, configs: Mapping[str, str | None] | None
) -> list[Finding]:
    """Find out whether anybody may write. `configs` are the broker's, None where we may not look."""
    events, log = settings.events_topic, settings.relay_topic
    checks = {
        f"writers of {events}": (Resource.TOPIC, events, "whoever writes there makes read tables say anything"),
        f"writers of {log}": (
            Resource.TOPIC,
            log,
            "whoever writes there can keep a relay from starting, or have it delete events that were not published",
        ),
    } | {
        f"users of {name}": (Resource.TRANSACTIONAL_ID, name, "whoever uses this transactional id stops the relay")
        for name in (settings.publishing_id, settings.maintenance_id)
    }
    first = next(iter(checks))
    try:
        allowed = {check: await allowed_on(client, resource, name) for check, (resource, name, _) in checks.items()}
    except SecurityDisabled:
        return [Finding(first, "warning", "anybody who reaches the brokers: they have no authorizer", _REMEDY)]
    except ClusterAuthorizationFailedError:
        remedy = "run doctor as a principal that may DESCRIBE the cluster"
        return [Finding(first, "warning", "not known: this principal may not look at the ACLs", remedy)]
    return [judge_writers(check, allowed[check], configs, harm) for check, (*_, harm) in checks.items()]


def judge_writers(
    check: str, allowed: list[tuple[str, int]], configs: Mapping[str, str | None] | None, harm: str
) -> Finding:
    """Judge by the ACLs that name the resource; without any, by what brokers do then."""
    if not allowed and configs is None:
        found = f"not known: no ACL names it, and this principal may not look at {OPEN_WITHOUT_ACL}"
        return Finding(check, "warning", found, "run doctor as a principal that may DESCRIBE_CONFIGS the cluster")
    # Brokers may keep the value to themselves.
    if configs is not None and not allowed and configs.get(OPEN_WITHOUT_ACL, "false") != "false":
        return Finding(check, "warning", f"anybody, unless {OPEN_WITHOUT_ACL} is false: no ACL names it", _REMEDY)
    writers = {who for who, operation in allowed if operation in (AclOperation.ALL, AclOperation.WRITE)}
    if everybody := sorted(writers & EVERYBODY):
        remedy = f"remove that ACL with kafka-acls.sh: {harm}"
        return Finding(check, "warning", f"anybody: an ACL allows it to {', '.join(everybody)}", remedy)
    return Finding(check, "ok", ", ".join([*sorted(writers), "the brokers' superusers"]))

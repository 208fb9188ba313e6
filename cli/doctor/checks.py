"""Runs all checks of `muster doctor` and collects their findings; none of them changes anything.

A check that cannot run (its server is down, its settings are missing) counts as failed; the others still run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from pydantic import Field, SecretStr, create_model

from chassis.lifecycle import wait_at_most
from chassis.settings import OperatorCommandPostgres, OperatorQueryPostgres, Settings, load, variable
from chassis.settings_error import SettingsError
from cli.doctor.budget import Instances, budget
from cli.doctor.feeds import examine_feeds
from cli.doctor.findings import Finding
from cli.doctor.kafka import examine_kafka
from cli.doctor.outbox import examine_outbox
from cli.doctor.postgres import Server, examine_database
from cli.doctor.published import examine_published
from command_api.settings import CommandApiSettings
from console.settings import ConsoleSettings
from event_api.settings import EventApiSettings
from outbox.settings import RelaySettings
from projectors.settings import OperatorProjectorSettings, ProjectorSettings
from query_api.settings import QueryApiSettings

S = TypeVar("S", bound=Settings)

#: Parts that an installation may lack; it has one if any of these variables is set.
_OTHERS: Final[dict[str, tuple[type[Settings], tuple[str, ...]]]] = {
    "event API": (EventApiSettings, ("EVENT_API_SECRETS", "RECEIPTS_KEY", "EVENTS_POSTGRES_USER")),
    "console": (ConsoleSettings, ("CONSOLE_SECRET", "CONSOLE_COMMAND_URL")),
}
#: Every call within a check has a deadline of its own; this one is for the unforeseen.
CHECK_SECONDS: Final = 120.0


async def examine(instances: Instances, *, within: float = CHECK_SECONDS) -> list[Finding]:
    """Return every finding, in the order in which to mend them; a check of more than `within` seconds has failed."""
    findings: list[Finding] = []
    command = _settings("command API", CommandApiSettings, findings)
    query = _settings("query API", QueryApiSettings, findings)
    relay = _settings("relay", RelaySettings, findings)
    projectors = _settings("projectors", ProjectorSettings, findings)
    for name, (kind, own) in _OTHERS.items():
        if any(map(_is_told, own)):
            _settings(name, kind, findings)

    servers: dict[str, Server] = {}
    checks: dict[str, Coroutine[Any, Any, list[Finding]]] = {}
    if command or relay:
        address = load(OperatorCommandPostgres).command_database
        user = (command or relay).command_database.user  # type: ignore[union-attr] # one of them is there
        checks["command database"] = examine_database("command", address, user, servers)
        checks["outbox"] = examine_outbox(address)
    if query or projectors:
        address = load(OperatorQueryPostgres).query_database
        user = (query or projectors).query_database.user  # type: ignore[union-attr] # one of them is there
        checks["query database"] = examine_database("query", address, user, servers)
    if relay:
        checks["Kafka"] = examine_kafka(relay)
        checks["partitions"] = examine_published(relay, load(OperatorCommandPostgres).command_database)
    if projectors:
        checks["feeds"] = examine_feeds(load(OperatorProjectorSettings))
    for found in await asyncio.gather(*(_in_time(name, check, within) for name, check in checks.items())):
        findings.extend(found)
    if command and query and projectors:
        findings.extend(budget(command, query, projectors, instances, servers))
    return findings


async def _in_time(name: str, check: Coroutine[Any, Any, list[Finding]], within: float) -> list[Finding]:
    try:
        return await wait_at_most(check, within)
    except TimeoutError:
        remedy = "see whether the server answers and how busy it is, then try again"
        return [Finding(name, "failed", f"the check did not end within {within:.0f} s", remedy)]


def _settings(name: str, kind: type[S], findings: list[Finding]) -> S | None:
    try:
        settings = load(kind)
    except SettingsError as error:
        if variable("OPERATOR_POSTGRES_USER") and (known := _without_secrets(kind)):
            found = "complete, but for secrets of its own, which an operator is not told"
            findings.append(Finding(f"settings: {name}", "ok", found))
            return known
        remedy = "set them: .env.example lists every variable, docs/reference/settings.md explains it"
        findings.append(Finding(f"settings: {name}", "failed", "; ".join(error.lines), remedy))
        return None
    findings.append(Finding(f"settings: {name}", "ok", "complete"))
    return settings


def _is_told(name: str) -> bool:
    try:
        return bool(variable(name))
    except SettingsError:  # as for a file that cannot be read; loading all settings reports that
        return True


def _without_secrets(kind: type[S]) -> S | None:
    """The settings of a process, without its secrets; None where others are missing or wrong."""
    secrets: dict[str, Any] = {
        name: (SecretStr, Field(SecretStr(str((field.examples or [""])[0])), validation_alias=field.validation_alias))
        for name, field in kind.model_fields.items()
        if field.annotation is SecretStr and field.is_required()
    }
    try:
        return load(create_model(kind.__name__, __base__=kind, **secrets))
    except SettingsError:
        return None

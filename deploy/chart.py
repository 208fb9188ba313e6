"""Which variables the chart may give to each process, found in the settings classes and written for its templates.

So a value that no process reads, or one that is missing, is a sentence of `helm`, not of a process that ends at once.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from chassis.postgres.roles import ROLES
from chassis.settings import OwnerCommandPostgres, OwnerQueryPostgres, Settings, aliases_of
from cli.kafka_rights import TopicsSettings
from cli.operations.audit import AuditSettings
from cli.operations.lag import LagSettings
from command_api.settings import CommandApiSettings
from console.settings import ConsoleSettings
from event_api.settings import EventApiSettings
from outbox.settings import RelaySettings
from projectors.settings import OperatorProjectorSettings, ProjectorSettings
from query_api.settings import QueryApiSettings

CHART: Final = Path(__file__).parent / "helm" / "muster"
FILE: Final = CHART / "files" / "variables.json"
#: What each workload of the chart reads; the last two are `muster migrate` and whoever types commands.
READS: Final[dict[str, tuple[type[Settings], ...]]] = {
    "command-api": (CommandApiSettings,),
    "query-api": (QueryApiSettings,),
    "event-api": (EventApiSettings,),
    "relay": (RelaySettings,),
    "projectors": (ProjectorSettings,),
    "console": (ConsoleSettings,),
    "migrate": (OwnerCommandPostgres, OwnerQueryPostgres, TopicsSettings),
    "operator": (LagSettings, AuditSettings, OperatorProjectorSettings, TopicsSettings),
}
#: What `muster doctor` looks at: without their secrets, these can be had.
_EXAMINED: Final = tuple(kind for name in ("command-api", "query-api", "relay", "projectors") for kind in READS[name])
#: The chart's own to decide: where a process listens. In a pod it is never a loopback address, so access stays on.
_DECIDED: Final = re.compile(r"^AUTH_DISABLED$|_(API|OPS|HTTP)_(HOST|PORT)$|^CONSOLE_(HOST|PORT)$")
#: Required by more than a class: an API that does not know whom to let in does not start.
_ACCESS: Final = (["AUTH_ISSUER"], ["AUTH_AUDIENCE"])
#: `muster roles`, which the migration may run first, gives each role the password of its variable.
_ROLE_PASSWORDS: Final = {f"{prefix}_POSTGRES_PASSWORD" for prefix, _ in ROLES.values()}


def digest(chart: Path) -> str:
    """Of all that is rendered for production: the chart's files, what their links lead to, and the values."""
    total = sha256()
    values = chart.parent / "examples" / "production.yaml"
    for path in sorted([*chart.glob("*"), *chart.glob("*/*"), *chart.glob("files/*/*"), values]):
        if path.is_file():
            total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def variables() -> dict[str, Any]:
    """For each workload: the variables that it takes, those that are secrets, and those of which one is required."""
    return {name: _of(name, classes) for name, classes in READS.items()}


def _of(name: str, classes: tuple[type[Settings], ...]) -> dict[str, Any]:
    fields = [field for kind in classes for field in kind.model_fields.values()]
    taken = {alias for field in fields for alias in aliases_of(field) if not _DECIDED.search(alias)}
    secret = {alias for field in fields for alias in aliases_of(field) if _is_secret(field)}
    if name == "migrate":
        secret |= _ROLE_PASSWORDS
    if name == "operator":
        examined = [field for kind in _EXAMINED for field in kind.model_fields.values() if not _is_secret(field)]
        taken |= {alias for field in examined for alias in aliases_of(field) if not _DECIDED.search(alias)}
    required = {tuple(aliases_of(field)) for field in fields if field.is_required()}
    access = _ACCESS if name.endswith("-api") or name == "console" else ()
    return {
        "settings": sorted(taken - secret),
        "secrets": sorted(secret),
        "required": sorted([*map(list, required), *access]),
    }


def _is_secret(field: FieldInfo) -> bool:
    return "Secret" in str(field.annotation)

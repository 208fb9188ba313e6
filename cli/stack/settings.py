"""The parts of a local stack, their ports, and the settings that point its processes at its servers and each other.

A process inherits the environment of the person at the terminal (so `WORKERS=4 make up` works), without the variables
that would point it at other servers. What that environment says goes before what the stack would choose, but for where
servers are and who listens where. A process runs in the data folder, where it finds no `.env` of a checkout.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from chassis.postgres.roles import ROLES
from chassis.settings import variable
from cli.stack.discovery import FOLDER_VARIABLE, issuer_folder
from local_stack.folder import MARK_VARIABLE
from local_stack.issuer_files import KEY_SET, has_issuer, read_description
from local_stack.ports import LOCALHOST
from local_stack.postgres.server import ServerAddress
from local_stack.private_file import write_private
from local_stack.secret_values import make_secret
from local_stack.servers import Servers

#: The part that people look at.
CONSOLE: Final = "console"
COMMAND_DATABASE = "muster_command"
QUERY_DATABASE = "muster_query"

#: Which of two servers the query API reads.
_READ_FROM: Final = "QUERY_POSTGRES_TARGET_SESSION_ATTRS"
#: Of topics on three brokers, so that any one of these may be away.
_THREE_COPIES: Final = {"TOPIC_REPLICATION_FACTOR": "3", "TOPIC_MIN_INSYNC_REPLICAS": "2"}

SECRETS_FILE = "secrets.json"

#: Each role's password is in this variable.
_PASSWORDS: Final = tuple(f"{prefix}_POSTGRES_PASSWORD" for prefix, _ in ROLES.values())
#: What a stack makes for itself, once: cursors, stored answers and receipts depend on it.
SECRETS: Final = (
    "IDEMPOTENCY_SECRET",
    "CREDENTIALS_SECRETS",
    "CURSOR_KEYS",
    "EVENT_API_SECRETS",
    "RECEIPTS_KEY",
    "CONSOLE_SECRET",
    *_PASSWORDS,
)
#: The secrets that each process gets.
_OWN: Final[dict[str, frozenset[str]]] = {
    "command-api": frozenset({"COMMAND_POSTGRES_PASSWORD", "IDEMPOTENCY_SECRET", "CREDENTIALS_SECRETS"}),
    "query-api": frozenset({"QUERY_POSTGRES_PASSWORD", "CURSOR_KEYS"}),
    "event-api": frozenset({"EVENTS_POSTGRES_PASSWORD", "EVENT_API_SECRETS", "RECEIPTS_KEY"}),
    "console": frozenset({"OPERATOR_POSTGRES_PASSWORD", "CONSOLE_SECRET"}),
    "relay": frozenset({"RELAY_POSTGRES_PASSWORD"}),
    "projectors": frozenset({"PROJECTORS_POSTGRES_PASSWORD"}),
    "roles": frozenset({"POSTGRES_PASSWORD", *_PASSWORDS}),
    "migrate": frozenset({"OWNER_POSTGRES_PASSWORD"}),
    "topics": frozenset(),
    "rebuild": frozenset({"OPERATOR_POSTGRES_PASSWORD"}),
    # The process that the others are forked from.
    "imports": frozenset(),
}

_SERVER_PARTS = ("USER", "PASSWORD", "SERVER", "PORT", "DB", "SSLMODE", "SSLROOTCERT", "SSLCERT", "SSLKEY")
_OWNERS = ("", *(f"{prefix}_" for prefix, _ in ROLES.values()))
_OTHER_SERVERS = {f"{owner}POSTGRES_{part}" for owner in _OWNERS for part in _SERVER_PARTS}
_OTHER_BROKERS = ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_", "KAFKA_SSL_")


#: Each part connects to Kafka as this principal, which has rights of its own (`muster topics --acls`).
KAFKA_PRINCIPALS: Final = {"relay": "relay", "projectors": "projectors", "event-api": "events"}

#: The parts of the stack in the order of the screen, and the servers without which each never becomes ready.
_NEEDS: Final[dict[str, frozenset[str]]] = {
    "postgres": frozenset(),
    "kafka": frozenset(),
    "command-api": frozenset({"postgres"}),
    "query-api": frozenset({"postgres"}),
    "relay": frozenset({"postgres", "kafka"}),
    "projectors": frozenset({"postgres", "kafka"}),
    "event-api": frozenset({"postgres", "kafka"}),
    "console": frozenset({"postgres", "kafka"}),
}
PARTS: Final = tuple(_NEEDS)
ALL_PARTS: Final = frozenset(PARTS)
SERVICES: Final = frozenset(part for part, servers in _NEEDS.items() if servers)


def needed_servers(part: str) -> frozenset[str]:
    """Return the servers a part needs."""
    return _NEEDS[part]


#: The first HTTP port, and how far each part's is from it; gaps are for parts to come.
PORT_BASE: Final = 8000
LAST_PORT_BASE: Final = 65_535 - 12
HTTP_PORTS: Final = {
    "command": 0,
    "query": 1,
    "relay": 2,
    "projectors": 3,
    "console": 4,
    "events": 5,
    "console_ops": 9,
    "command_ops": 10,
    "query_ops": 11,
    "events_ops": 12,
}


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens, on 127.0.0.1."""

    postgres: int
    kafka: int
    command: int
    query: int
    relay: int
    projectors: int
    console: int
    events: int
    console_ops: int
    command_ops: int
    query_ops: int
    events_ops: int

    def by_option(self) -> dict[str, int]:
        """Return each port by the option that moves it."""
        return {f"--{name.replace('_', '-')}-port": port for name, port in asdict(self).items()}


def stack_settings(folder: Path, ports: Ports, postgres: ServerAddress) -> dict[str, str]:
    """Return the settings with which any Muster command uses this stack.

    Raises:
        NoIssuerError: the stack's issuer is damaged.
        SettingsError: a file that the environment names cannot be read.
    """
    made = _generated_secrets(folder)
    chosen = {
        "PUBLIC_COMMAND_URL": f"http://{LOCALHOST}:{ports.command}",
        "PUBLIC_QUERY_URL": f"http://{LOCALHOST}:{ports.query}",
        "PUBLIC_EVENTS_URL": f"http://{LOCALHOST}:{ports.events}",
        "PUBLIC_CONSOLE_URL": f"http://{LOCALHOST}:{ports.console}",
        **{name: value for name, value in made.items() if name not in _PASSWORDS},
    }
    return {
        "POSTGRES_USER": postgres.user,
        "POSTGRES_PASSWORD": postgres.password,
        "POSTGRES_SERVER": postgres.host,
        "POSTGRES_PORT": str(postgres.port),
        # The embedded server has no TLS.
        "POSTGRES_SSLMODE": "disable",
        "COMMAND_POSTGRES_DB": COMMAND_DATABASE,
        "QUERY_POSTGRES_DB": QUERY_DATABASE,
        "KAFKA_BOOTSTRAP_SERVERS": f"{LOCALHOST}:{ports.kafka}",
        "COMMAND_API_PORT": str(ports.command),
        "QUERY_API_PORT": str(ports.query),
        "COMMAND_API_OPS_PORT": str(ports.command_ops),
        "QUERY_API_OPS_PORT": str(ports.query_ops),
        "EVENT_API_PORT": str(ports.events),
        "EVENT_API_OPS_PORT": str(ports.events_ops),
        "CONSOLE_PORT": str(ports.console),
        "CONSOLE_OPS_PORT": str(ports.console_ops),
        "CONSOLE_COMMAND_URL": f"http://{LOCALHOST}:{ports.command}",
        "CONSOLE_QUERY_URL": f"http://{LOCALHOST}:{ports.query}",
        "CONSOLE_EVENTS_URL": f"http://{LOCALHOST}:{ports.events}",
        "CONSOLE_COMMAND_OPS_URL": f"http://{LOCALHOST}:{ports.command_ops}",
        "CONSOLE_QUERY_OPS_URL": f"http://{LOCALHOST}:{ports.query_ops}",
        "CONSOLE_EVENTS_OPS_URL": f"http://{LOCALHOST}:{ports.events_ops}",
        "RELAY_HTTP_PORT": str(ports.relay),
        "PROJECTORS_HTTP_PORT": str(ports.projectors),
        **{f"{prefix}_POSTGRES_USER": role for role, (prefix, _) in ROLES.items()},
        **{name: made[name] for name in _PASSWORDS},
        **{name: _given(name) or value for name, value in chosen.items()},
        **_access(issuer_folder(folder)),
        FOLDER_VARIABLE: str(folder),
    }


def server_settings(servers: Servers) -> dict[str, str]:
    """Return the settings that tell where the stack's servers are, as Kafka's superuser; they override the others."""
    settings = servers.kafka.client_settings()
    if servers.standby:
        settings["POSTGRES_SERVER"] = ",".join(f"{LOCALHOST}:{server.port}" for server in servers.databases)
        attributes = _given(_READ_FROM) or _given(_READ_FROM.removeprefix("QUERY_"))
        settings[_READ_FROM] = attributes or "prefer-standby"
    if servers.chosen.brokers > 1:
        settings |= {name: _given(name) or value for name, value in _THREE_COPIES.items()}
    return settings


def settings_of(part: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of one process, with only its own secrets and its own user of PostgreSQL."""
    kept = {"POSTGRES_PASSWORD", *SECRETS} - _OWN[part]
    kept |= {name.replace("_PASSWORD", "_USER") for name in kept}
    return {name: value for name, value in settings.items() if name not in kept}


#: What pydantic takes for true.
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})


def _access(own: Path) -> dict[str, str]:
    """Return whose tokens open the APIs: its own issuer's, made once, unless the environment names another."""
    named = {name for name in os.environ if name.startswith("AUTH_")}
    named |= {name.removesuffix("_FILE") for name in named} - {"AUTH_JWKS"}
    given = {name: value for name in named if not _is_file_of(name) and (value := _given(name))}
    if "AUTH_JWKS_FILE" in given:  # relative to the terminal's folder; processes run in another one
        given["AUTH_JWKS_FILE"] = str(Path(given["AUTH_JWKS_FILE"]).absolute())
    if "AUTH_ISSUER" in given or is_open(given):
        return given
    if not has_issuer(own):
        from local_stack.issuer import init_issuer  # noqa: PLC0415 - a stack's first start alone pays for it

        init_issuer(own)
    described = read_description(own)
    keys = {} if "AUTH_JWKS_URL" in given else {"AUTH_JWKS_FILE": str(own / KEY_SET)}
    return {"AUTH_ISSUER": described.issuer, "AUTH_AUDIENCE": described.audience, **keys, **given}


def _is_file_of(name: str) -> bool:
    """Tell whether the variable names a file with another setting's value; AUTH_JWKS_FILE is a setting itself."""
    return name.endswith("_FILE") and name != "AUTH_JWKS_FILE"


def _given(name: str) -> str | None:
    """Return what the environment sets, by itself or by NAME_FILE; a process of the stack runs in another folder.

    Raises:
        SettingsError: the file cannot be read, or the value is given as well.
    """
    return variable(name, dotenv=False)


def is_open(settings: Mapping[str, str]) -> bool:
    """Tell whether these settings let everybody in."""
    return settings.get("AUTH_DISABLED", "").lower() in _TRUE


def trusts_own_issuer(folder: Path, settings: Mapping[str, str]) -> bool:
    """Tell whether the APIs accept tokens of the stack's own issuer, so that a link to the console can be made."""
    return not is_open(settings) and settings.get("AUTH_JWKS_FILE") == str(issuer_folder(folder) / KEY_SET)


def kafka_settings_of(settings: Mapping[str, str], kafka: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with this way into Kafka instead of the superuser's."""
    return {**{name: value for name, value in settings.items() if not name.startswith("KAFKA_")}, **kafka}


def process_environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of one of our processes."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not _points_elsewhere(name) and name.removesuffix("_FILE") not in settings
    }
    return {**inherited, **settings, MARK_VARIABLE: str(folder)}


def _points_elsewhere(name: str) -> bool:
    # asyncpg itself reads PG…: a PGSSLMODE meant for another server would make ours unreachable.
    return name.removesuffix("_FILE") in _OTHER_SERVERS or name.startswith((*_OTHER_BROKERS, "PG"))


def _generated_secrets(folder: Path) -> dict[str, str]:
    """Return this stack's secrets, and make those that are missing, as in an earlier version's folder."""
    file = folder / SECRETS_FILE
    there: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    made = {name: there.get(name) or make_secret(name) for name in SECRETS}
    if made != there:
        write_private(file, json.dumps(made, indent=2))
    return made

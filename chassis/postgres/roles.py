"""The roles of PostgreSQL by name: each process has its own, and cli/roles/grants.py says what it may do."""

from typing import Final, Literal, TypeAlias

DatabaseName: TypeAlias = Literal["command", "query"]

#: Owns the tables; migrates.
OWNER: Final = "muster_owner"
COMMAND: Final = "muster_command"
RELAY: Final = "muster_relay"
#: Owns the tables of generations. Those who may make and drop generations are its members.
PROJECTORS: Final = "muster_projectors"
QUERY: Final = "muster_query"
EVENTS: Final = "muster_events"
OPERATOR: Final = "muster_operator"

#: Each role: the prefix of its variables, PREFIX_POSTGRES_USER and PREFIX_POSTGRES_PASSWORD, and its databases.
ROLES: Final[dict[str, tuple[str, tuple[DatabaseName, ...]]]] = {
    OWNER: ("OWNER", ("command", "query")),
    COMMAND: ("COMMAND", ("command",)),
    RELAY: ("RELAY", ("command",)),
    PROJECTORS: ("PROJECTORS", ("query",)),
    QUERY: ("QUERY", ("query",)),
    EVENTS: ("EVENTS", ("query",)),
    OPERATOR: ("OPERATOR", ("command", "query")),
}


def roles_of(database: DatabaseName) -> list[str]:
    """The roles that may connect to a database."""
    return [role for role, (_, databases) in ROLES.items() if database in databases]

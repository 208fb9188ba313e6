"""Who may do what in the two databases: one table, from which come the SQL, docs/reference/roles.md and their test.

What is not in it is refused. Each process has a role of its own, so that a process that was broken into can do what its
work needs and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chassis.postgres.roles import COMMAND, EVENTS, OPERATOR, OWNER, PROJECTORS, QUERY, RELAY, DatabaseName
from command_api.users.tables import users
from read_model.catalogue import SCHEMAS

#: The members of a role have its rights too.
MEMBERS: Final[dict[str, tuple[str, ...]]] = {PROJECTORS: (OWNER, OPERATOR)}
#: Who may make tables: migrations, and rebuilds of read tables.
CREATORS: Final[dict[DatabaseName, tuple[str, ...]]] = {"command": (OWNER,), "query": (OWNER, PROJECTORS)}

#: Every column of a user but those of the password.
_USER: Final = ", ".join(column.name for column in users.columns if not column.name.startswith("password_"))

#: What the release before this one uses and this one does not. Nobody is given it; who has it keeps it, so that the
#: older version serves on during an upgrade, and the next release takes it (docs/explanation/versions.md). Each has
#: DELETE, by which it is known whether it was given.
LEAVING: Final[dict[DatabaseName, dict[str, dict[str, str]]]] = {
    "command": {
        "outbox": {COMMAND: "DELETE, SELECT (damage)"},
        "outbox_set_aside": {COMMAND: "DELETE, SELECT (id, subject_id)"},
    },
    "query": {},
}

#: What each role may do with the tables of `muster_owner`, as GRANT spells it.
TABLES: Final[dict[DatabaseName, dict[str, dict[str, str]]]] = {
    "command": {
        "users": {
            COMMAND: "SELECT, INSERT, UPDATE, DELETE",
            # Whoever appends a user's snapshot locks the row; a lock needs a right to change.
            OPERATOR: f"SELECT ({_USER}), UPDATE (version, event_id)",
        },
        "erased_users": {COMMAND: "SELECT, INSERT", OPERATOR: "SELECT, INSERT, UPDATE (version)"},
        "outbox": {
            # An INSERT returns the id; whether an event is there settles a commit whose reply was lost.
            COMMAND: "INSERT (event_id, subject_id, value, headers), SELECT (id, event_id, subject_id)",
            RELAY: "SELECT, UPDATE (damage), DELETE",
            OPERATOR: "SELECT, INSERT, DELETE",
        },
        "outbox_set_aside": {
            RELAY: "SELECT (id, subject_id)",
            OPERATOR: "SELECT, INSERT, DELETE",
        },
        "published_topics": {
            RELAY: "SELECT, INSERT (name, partitions), UPDATE (partitions, led_at)",
            OPERATOR: "SELECT, UPDATE (refilling, refilled_to)",
        },
        "credential_attempts": {
            COMMAND: "SELECT, INSERT, UPDATE, DELETE",
            RELAY: "SELECT (counter, expires_at), UPDATE (expires_at), DELETE",
        },
        "one_time_tokens": {
            COMMAND: "SELECT, INSERT, UPDATE, DELETE",
            RELAY: "SELECT (digest, expires_at), UPDATE (expires_at), DELETE",
        },
        "idempotency_records": {
            COMMAND: "SELECT, INSERT, UPDATE",
            # The purge finds what is old and locks it; a lock needs a right to change.
            RELAY: "SELECT (digest, created_at), UPDATE (created_at), DELETE",
        },
        "idempotency_bodies": {
            COMMAND: "SELECT, INSERT, UPDATE",
            RELAY: "SELECT (subject_id, digest, used_at), UPDATE (used_at), DELETE",
        },
        "alembic_version": {OPERATOR: "SELECT"},
    },
    "query": {
        "generations": {
            PROJECTORS: "SELECT, UPDATE (refusal)",
            QUERY: "SELECT",
            EVENTS: "SELECT",
            OPERATOR: "INSERT, UPDATE",
        },
        "checkpoints": {PROJECTORS: "SELECT, INSERT, UPDATE", QUERY: "SELECT", OPERATOR: "DELETE"},
        "parked_records": {PROJECTORS: "SELECT, INSERT, UPDATE, DELETE"},
        "parked_values": {PROJECTORS: "SELECT, INSERT, UPDATE, DELETE"},
        "parked_versions": {PROJECTORS: "SELECT, INSERT, UPDATE, DELETE"},
        "counted_records": {PROJECTORS: "SELECT, INSERT, UPDATE, DELETE"},
        "repaired_users": {PROJECTORS: "SELECT", OPERATOR: "INSERT, UPDATE"},
        # The console is an operator's; whoever makes a link for it, too.
        "console_sessions": {OPERATOR: "SELECT, INSERT, UPDATE (sealed, revealed, renewing_until), DELETE"},
        "console_links": {OPERATOR: "SELECT, INSERT, DELETE"},
        "console_operations": {OPERATOR: "SELECT, INSERT (actor, deed, targets), UPDATE (outcome)"},
        "subscribers": {EVENTS: "SELECT, INSERT, UPDATE (consumer_group, topic_id, offsets, acknowledged_at), DELETE"},
        "erasure_looks": {EVENTS: "SELECT, INSERT, UPDATE (expected_by, topic_id, looked_at, forgotten)"},
        "alembic_version": {OPERATOR: "SELECT"},
    },
}
#: Functions that do, as `muster_owner`, one thing for which a role has no right itself: who may call them.
FUNCTIONS: Final[dict[DatabaseName, dict[str, tuple[str, ...]]]] = {
    "command": {"forget_held_back(uuid)": (COMMAND,)},
    "query": {},
}
#: The tables of a generation belong to `muster_projectors`; these may read them from the moment they are made.
READERS_OF_GENERATIONS: Final = (QUERY, EVENTS)
#: Finds the tables of generations among a database's tables.
GENERATIONS: Final = rf"^({'|'.join(SCHEMAS)})_g\d+(_[a-z_]+)?$"


@dataclass(frozen=True, slots=True)
class Right:
    """One row of the table: what a role may do with a table or a function."""

    database: DatabaseName
    name: str
    role: str
    privileges: str


def rights() -> Iterator[Right]:
    """Every row of the table."""
    for database, tables in TABLES.items():
        for table, roles in tables.items():
            for role, privileges in roles.items():
                yield Right(database, table, role, privileges)
        for function, callers in FUNCTIONS[database].items():
            for role in callers:
                yield Right(database, function, role, "EXECUTE")

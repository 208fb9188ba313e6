"""Users as its aggregates, and a table of them as its materialised view: each event and its position in one commit.

Source: eventsourcing 9.5's pages "Projections" (`ProjectionRunner`, a view that is a tracking recorder) and
"Persistence" (PostgreSQL). The projection asks for its topic alone, and statements are prepared, as both advise.
"""

import time
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import get_topic
from psycopg.sql import SQL

from local_stack.postgres.server import ServerAddress

#: Of the library, by the name of the projection.
VIEW_TABLES: Final = ("users_view", "usersprojection_tracking")
#: Events in one call when the store is filled.
TOGETHER: Final = 1000
REBUILD_SECONDS: Final = 120.0
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS users_view (id uuid PRIMARY KEY, email text UNIQUE, username text UNIQUE, version bigint)
"""
_PUT: Final = """
INSERT INTO users_view VALUES (%s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET email = excluded.email, username = excluded.username, version = excluded.version
WHERE users_view.version < excluded.version
"""


class User(Aggregate):  # type: ignore[misc]  # the library is there for benchmarks alone
    """Somebody who registered."""

    def __init__(self, email: str, username: str) -> None:
        self.email = email
        self.username = username


class Users(Application):  # type: ignore[misc]  # as above
    """The store of their events."""


class UsersView(PostgresTrackingRecorder):  # type: ignore[misc]  # as above
    """The table, beside the position up to which it has everything."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.sql_create_statements.append(SQL(_CREATE))

    def put(self, event: Any, tracking: Tracking) -> None:
        """Write a user and the position in one transaction."""
        values = (event.originator_id, event.email, event.username, event.originator_version)
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(_PUT, values, prepare=True)


class UsersProjection(Projection):  # type: ignore[misc]  # as above
    """From registrations to rows."""

    topics = (get_topic(User.Created),)

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Write one user."""
        self.view.put(domain_event, tracking)


def environment(server: ServerAddress, database: str) -> Mapping[str, str]:
    """Return its settings."""
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": database,
        "POSTGRES_HOST": server.host,
        "POSTGRES_PORT": str(server.port),
        "POSTGRES_USER": server.user,
        "POSTGRES_PASSWORD": server.password,
    }


def fill(settings: Mapping[str, str], users: int) -> None:
    """Register so many, by the recorder itself."""
    application = Users(settings)
    made = (User(f"user{number}@example.com", f"user{number}") for number in range(users))
    events = (application.mapper.to_stored_event(event) for user in made for event in user.collect_events())
    while portion := list(islice(events, TOGETHER)):
        application.recorder.insert_events(portion)
    application.close()


def rebuild(settings: Mapping[str, str], users: int) -> float:
    """Return the seconds until the view, which must not be there, has so many events."""
    began = time.perf_counter()
    with ProjectionRunner(
        application_class=Users, projection_class=UsersProjection, view_class=UsersView, env=settings
    ) as runner:
        runner.wait(users, timeout=REBUILD_SECONDS)
        return time.perf_counter() - began

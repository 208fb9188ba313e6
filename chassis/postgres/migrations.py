"""Alembic for both databases: one environment, which `muster migrate` and the alembic command run.

A migration is applied while the services run, so it waits only a short time for a lock: a statement queued behind a
slow reader would make every other reader queue behind it. Two processes that migrate at once take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from chassis.postgres.database import CONNECT_SECONDS, SESSION_SETTINGS
from chassis.postgres.pool import Connection as Driver
from chassis.postgres.servers import open_on_any
from chassis.postgres_address.hosts import Host
from chassis.settings import PostgresAddress

#: A migration waits so long for a lock, and readers wait behind it; then it fails and is repeated.
MIGRATION_LOCK_TIMEOUT: Final = "3s"
#: Another process that migrates this database is waited for so long; our migrations take seconds.
TURN_TIMEOUT: Final = "60s"
#: A process that freezes between two revisions loses its turn; a healthy one idles there for milliseconds.
FROZEN_TIMEOUT: Final = "10s"
#: Any number that nothing else locks; held by the process that migrates, until its transaction ends.
_TURN: Final = 7_461_902_113

_ADDRESS: Final = "address"
_APPLIED: Final = "applied"


def upgrade(location: str, address: PostgresAddress, revision: str) -> list[str]:
    """Bring a database to a revision, in one transaction a revision, and return the revisions that were applied.

    `location` is the migrations' folder as Alembic writes it (`projectors:migrations`), so that they are found in a
    checkout and in an installed wheel. Not callable from inside an event loop.

    Raises:
        Exception: whatever the driver says when the server is not there, or no lock was had in MIGRATION_LOCK_TIMEOUT.
    """
    return _run(location, address, lambda config: command.upgrade(config, revision))


def downgrade(location: str, address: PostgresAddress, revision: str) -> list[str]:
    """Take a database back to a revision; as `upgrade`."""
    return _run(location, address, lambda config: command.downgrade(config, revision))


def current_and_head(location: str, address: PostgresAddress) -> tuple[str | None, str | None]:
    """The revision a database is at (None: never migrated) and the newest one there is; changes nothing.

    Raises:
        Exception: whatever the driver says when the server is not there.
    """
    config = Config()
    config.set_main_option("script_location", location)
    return asyncio.run(_current(address)), ScriptDirectory.from_config(config).get_current_head()


async def _current(address: PostgresAddress) -> str | None:
    engine = _engine(address)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(lambda plain: MigrationContext.configure(plain).get_current_revision())
    finally:
        await engine.dispose()


def _run(location: str, address: PostgresAddress, action: Callable[[Config], None]) -> list[str]:
    config = Config()
    config.set_main_option("script_location", location)
    applied: list[str] = []
    config.attributes.update({_ADDRESS: address, _APPLIED: applied})
    action(config)
    return applied


def run_environment(metadata: MetaData, load_address: Callable[[], PostgresAddress]) -> None:
    """Do what an `env.py` does: connect (or print the SQL, with `--sql`) and run the migrations that were asked for.

    The address is the one `upgrade` was given, else that of the settings. Tables that `metadata` does not know belong
    to somebody else and are never compared.
    """
    options: dict[str, Any] = {
        "target_metadata": metadata,
        "include_object": _ours(metadata),
        "compare_type": True,
        "transaction_per_migration": True,
    }
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", literal_binds=True, **options)
        with context.begin_transaction():
            context.run_migrations()
        return
    address = context.config.attributes.get(_ADDRESS) or load_address()
    asyncio.run(_online(address, options))


async def _online(address: PostgresAddress, options: dict[str, Any]) -> None:
    engine = _engine(
        address, application_name="muster-migrate", lock_timeout=TURN_TIMEOUT, idle_session_timeout=FROZEN_TIMEOUT
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate, options)
    finally:
        await engine.dispose()


def _engine(address: PostgresAddress, **server_settings: str) -> AsyncEngine:
    """The driver is given the address as everywhere else; a URL would have no room for all of it."""

    async def open_one(host: Host, attributes: str) -> Driver:
        arguments = address.arguments_for(host, attributes)
        connection: Driver = await asyncpg.connect(
            **arguments, timeout=CONNECT_SECONDS, server_settings=SESSION_SETTINGS | server_settings
        )
        return connection

    return create_async_engine(
        "postgresql+asyncpg://", poolclass=NullPool, async_creator=lambda: open_on_any(address, open_one)
    )


def _migrate(connection: Connection, options: dict[str, Any]) -> None:
    context.configure(connection=connection, on_version_apply=_note, **options)
    # A session lock, because every revision is a transaction of its own; it ends with the connection.
    connection.execute(text("SELECT pg_advisory_lock(:turn)"), {"turn": _TURN})
    connection.execute(text(f"SET lock_timeout = '{MIGRATION_LOCK_TIMEOUT}'"))
    connection.commit()
    with context.begin_transaction():
        context.run_migrations()


def _note(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:
    del ctx, heads, run_args
    context.config.attributes.setdefault(_APPLIED, []).append(str(step.up_revision_id or step.down_revision_ids))


def _ours(metadata: MetaData) -> Callable[..., bool]:
    def include(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        del reflected, compare_to
        table = item if isinstance(item, Table) else getattr(item, "table", None)
        known = name if kind == "table" else getattr(table, "name", None)
        return known in metadata.tables

    return include

"""Spans of PostgreSQL, by the semantic conventions for databases: a commit, and never a statement or its values."""

from __future__ import annotations

from contextlib import AbstractContextManager

from chassis.tracing.spans import Attributes, Span, SpanKind, step


def commit_attributes(database: str, table: str) -> Attributes:
    """What is said of commits to this table, for `committing`."""
    return {
        "db.system.name": "postgresql",
        "db.namespace": database,
        "db.collection.name": table,
        "db.operation.name": "commit",
    }


def committing(table: str, attributes: Attributes) -> AbstractContextManager[Span | None]:
    """The transaction that writes to this table, up to the answer to its COMMIT; nothing where no step is active."""
    return step(f"commit {table}", SpanKind.CLIENT, attributes)

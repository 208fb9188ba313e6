"""The key of an address has its domain in A-labels, so that every spelling of the domain has one key.

Unlike other migrations it must not run while the version before it serves: that one could register an address that is
there. End the command API first.

No two users need one new key. An address is stored with its domain as IDNA 2008 writes it, of which there is one for
each A-label, so whoever has one new key has one old key, and that is unique (tests/unit/chassis/test_small_parts.py
holds the library to it). The way back has no such proof: x@straße.de and x@strasse.de are two since, and were one.
"""

import logging
from collections.abc import Callable
from uuid import UUID

import sqlalchemy as sa
from alembic import op

from chassis.text_keys import email_key, text_key

revision: str = "0005"
down_revision: str | None = "0004"

#: The addresses whose keys can differ.
_UNUSUAL = sa.text("SELECT id, email, email_key FROM users WHERE email ~ '[^[:ascii:]]' ORDER BY id")
_CHANGE = sa.text("UPDATE users SET email_key = :key WHERE id = :id")
_CHANGE_IF_FREE = sa.text(
    "UPDATE users SET email_key = :key WHERE id = :id AND NOT EXISTS (SELECT FROM users WHERE email_key = :key)"
)


def upgrade() -> None:
    """Apply."""
    for id_, key in _wanted(email_key):
        op.get_bind().execute(_CHANGE, {"id": id_, "key": key})


def downgrade() -> None:
    """Undo; of two users who were one to the older version, one keeps the new key, and is named.

    That version finds the other by either address, and answers a change of this one with `email-taken`.
    """
    for id_, key in _wanted(text_key):
        if not op.get_bind().execute(_CHANGE_IF_FREE, {"id": id_, "key": key}).rowcount:
            logging.getLogger("muster.migrate").warning(
                "user %s keeps the new key of its address: to the older version it is another user's; "
                "change the address or erase the user with the newer one first",
                id_,
            )


def _wanted(key: Callable[[str], str]) -> list[tuple[UUID, str]]:
    """Who needs another key, and which."""
    if op.get_context().as_sql:
        return []  # keys are made in Python: there is no SQL of it to print
    rows = op.get_bind().execute(_UNUSUAL)
    return [(row.id, key(row.email)) for row in rows if key(row.email) != row.email_key]

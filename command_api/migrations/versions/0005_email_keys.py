"""The key of an address has its domain in A-labels, so that every spelling of the domain has one key.

Unlike other migrations it must not run while the version before it serves: that one could register an address that is
there. End the command API first.

No two users that Muster has stored need one new key. An address is stored with its domain as IDNA 2008 writes it, of
which there is one for each A-label, so whoever has one new key has one old key, and that is unique
(tests/unit/chassis/test_small_parts.py holds the library to it). Users that somebody has stored otherwise may: they are
named, keep their old keys and are found by these. The way back has no such proof: x@straße.de and x@strasse.de are two
since, and were one.
"""

import logging
from collections import Counter
from collections.abc import Callable
from uuid import UUID

import sqlalchemy as sa
from alembic import op

from chassis.text_keys import email_key, text_key

revision: str = "0005"
down_revision: str | None = "0004"

#: The addresses whose keys can differ.
_UNUSUAL = sa.text("SELECT id, email, email_key FROM users WHERE email ~ '[^[:ascii:]]' ORDER BY id")
_CHANGE_IF_FREE = sa.text(
    "UPDATE users SET email_key = :key WHERE id = :id AND NOT EXISTS (SELECT FROM users WHERE email_key = :key)"
)


def upgrade() -> None:
    """Apply; of users who would have one new key, none gets it who has not had it before, and each is named."""
    wanted = _wanted(email_key)
    times = Counter(key for _, key in wanted)
    for id_, key in wanted:
        if times[key] > 1 or not _change(id_, key):
            _warn(
                "user %s keeps the old key of its address, and is found by that: another user has its address as well,"
                " spelled otherwise; change one of the addresses or erase one of the users",
                id_,
            )


def downgrade() -> None:
    """Undo; of two users who were one to the older version, one keeps the new key, and is named.

    That version finds the other by either address, and answers a change of this one with `email-taken`.
    """
    for id_, key in _wanted(text_key):
        if not _change(id_, key):
            _warn(
                "user %s keeps the new key of its address: to the older version it is another user's; "
                "change the address or erase the user with the newer one first",
                id_,
            )


def _change(id_: UUID, key: str) -> bool:
    return bool(op.get_bind().execute(_CHANGE_IF_FREE, {"id": id_, "key": key}).rowcount)


def _warn(message: str, id_: UUID) -> None:
    logging.getLogger("muster.migrate").warning(message, id_)


def _wanted(key: Callable[[str], str]) -> list[tuple[UUID, str]]:
    """Who needs another key, and which."""
    if op.get_context().as_sql:
        return []  # keys are made in Python: there is no SQL of it to print
    rows = op.get_bind().execute(_UNUSUAL)
    return [(row.id, key(row.email)) for row in rows if key(row.email) != row.email_key]

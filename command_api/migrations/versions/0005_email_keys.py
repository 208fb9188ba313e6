"""The key of an address has its domain in A-labels, so that every spelling of the domain has one key.

Unlike other migrations it must not run while the version before it serves: that one could register an address that is
there. End the command API first. Two users whose new keys would be the same keep their old ones, and are named.
"""

import logging
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

from chassis.text_keys import email_key, text_key

revision: str = "0005"
down_revision: str | None = "0004"

#: The addresses whose keys can differ.
_UNUSUAL = sa.text("SELECT id, email, email_key FROM users WHERE email ~ '[^[:ascii:]]' ORDER BY id")
_CHANGE = sa.text(
    "UPDATE users SET email_key = :key WHERE id = :id AND NOT EXISTS (SELECT FROM users WHERE email_key = :key)"
)


def upgrade() -> None:
    """Apply."""
    _make_anew(email_key)


def downgrade() -> None:
    """Undo."""
    _make_anew(text_key)


def _make_anew(key: Callable[[str], str]) -> None:
    if op.get_context().as_sql:
        return  # keys are made in Python: there is no SQL of it to print
    database = op.get_bind()
    wanted = {row.id: key(row.email) for row in database.execute(_UNUSUAL) if key(row.email) != row.email_key}
    changed = True
    while changed:  # again, because a key may be free only once its owner has a new one
        left = {
            id_: new for id_, new in wanted.items() if not database.execute(_CHANGE, {"id": id_, "key": new}).rowcount
        }
        changed, wanted = len(left) < len(wanted), left
    for id_ in wanted:
        logging.getLogger("muster.migrate").warning(
            "user %s keeps the old key of its address: another has the new one", id_
        )

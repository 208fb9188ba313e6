"""What examples/events_over_http.py was given: each delivery, also of what its table has already."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from examples.events_over_http import TABLES
from tests.integration.examples.processes import rows

# The example writes what it has already as nothing; a trigger sees that all the same, in the same transaction.
_NOTE: Final = """
CREATE TABLE IF NOT EXISTS deliveries (id TEXT, user_id TEXT, version INTEGER);
CREATE TRIGGER IF NOT EXISTS note BEFORE INSERT ON events BEGIN
    INSERT INTO deliveries VALUES (new.id, new.user_id, new.version);
END
"""


def note_deliveries(file: Path) -> None:
    """Have a file that the example is to write note each delivery."""
    with closing(sqlite3.connect(file)) as database:
        database.executescript(f"{TABLES};{_NOTE}")


def deliveries(file: Path) -> list[Any]:
    """The id, the user and the version of each, in their order."""
    return rows(file, "SELECT id, user_id, version FROM deliveries ORDER BY rowid")

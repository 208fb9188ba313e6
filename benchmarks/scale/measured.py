"""The constants: rates from docs/benchmarks, sizes that a test measures again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parents[2] / "docs" / "benchmarks"


def figure(page: str, name: str) -> float:
    """The median that a page of figures has under that name.

    Raises:
        KeyError: the page has no such figure.
    """
    document = json.loads((_FOLDER / f"{page}.json").read_text(encoding="utf-8"))
    return {each["name"]: float(each["median"]) for each in document["measurements"]}[name]


#: What one core does in a second, PostgreSQL and the load on others.
HASHES: Final = figure("commands", "register with hash")
CHANGES: Final = figure("commands", "change")
PAGES: Final = figure("query", "list 50")
#: The commands' SQL alone, by pgbench, which shared PostgreSQL's core.
COMMITS: Final = figure("commands", "pgbench")
#: What the one active relay does, and what a core applies to all three projections, as fast as each is rebuilt.
RELAYED: Final = figure("relay", "relay")
REBUILT: Final = figure("projections", "rebuild of users")
APPLIED: Final = 1 / sum(1 / figure("projections", f"rebuild of {name}") for name in ("users", "timeline", "signups"))

#: Bytes a user, indexes included. tests/integration/benchmarks measures all sizes again, but for the next but one.
COMMAND_USER: Final = 516
QUERY_USERS_ROW: Final = 780
#: The sign-ups' and the timeline's beside it, as seen once, on a local stack into which 20,000 users were imported.
QUERY_USER: Final = QUERY_USERS_ROW + 210
#: Bytes an entry of the timeline, one for each event, kept as long as the user.
TIMELINE_ENTRY: Final = 400
#: Bytes a row that waits in the outbox.
OUTBOX_ROW: Final = 940
#: Bytes an event on the topic that is a batch of its own, with the commit's marker; a backlog is compressed to a
#: fraction.
EVENT: Final = 730

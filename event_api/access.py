"""What opens each route of the event API; docs/reference/access.md shows the same table."""

from __future__ import annotations

from typing import Final

from chassis.access.rules import AccessTable, Rule

ACCESS: Final = AccessTable((Rule("GET", "/events", ("events:read",), limit="reads"),))

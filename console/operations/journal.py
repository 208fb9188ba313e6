"""The record of what was done here: who, what, to whom, when, and what came of it.

It is written before the deed, so nothing is done unrecorded: where the record cannot be written nothing is done. A
deed is refused where somebody said so; where nobody answered, or broke off, what came of it is not known. It holds ids
alone, no personal data, and outlives the people whom it is about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from chassis.outages import describe
from chassis.postgres.database import Database, DatabaseUnavailableError
from console.pages import PageError, unsure
from console.sign_in.sessions import Session

log = structlog.get_logger("console")

#: A page shows so many.
PAGE_ROWS: Final = 50
#: The time for one row.
_SECONDS: Final = 3.0
_BIGINT: Final = 2**63

_BEGIN: Final = "INSERT INTO console_operations (actor, deed, targets) VALUES ($1, $2, $3) RETURNING id"
_END: Final = "UPDATE console_operations SET outcome = $2 WHERE id = $1"
_PAGE: Final = """
SELECT id, at, actor, deed, targets, outcome FROM console_operations
WHERE id < $1 ORDER BY id DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class RecordedDeed:
    """One deed; `outcome` is None where it is under way, or where nobody knows."""

    id: int
    at: datetime
    actor: str | None
    deed: str
    targets: Sequence[str]
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal in which deeds are recorded; the query database has it."""

    _database: Database

    @asynccontextmanager
    async def deed(self, session: Session, deed: str, *targets: object) -> AsyncIterator[None]:
        """Record a deed, let the block do it, and record what came of it.

        Raises:
            DatabaseUnavailableError: it cannot be recorded, and was not done.
            PageError: what became of it is not known, as the database did not answer.
        """
        async with self._database.connection(_SECONDS) as connection:
            number = await connection.fetchval(_BEGIN, session.actor, deed, [str(target) for target in targets])
        try:
            yield
        except PageError as error:
            came = "not known" if error.unsure else "refused"
            await self._end(number, f"{came}: {error.title} ({error.status})")
            raise
        except DatabaseUnavailableError as error:
            await self._end(number, "not known: the query database did not answer")
            raise unsure() from error
        except BaseException:
            await self._end(number, "not known: it was broken off")
            raise
        await self._end(number, "done")

    async def page(self, before: int | None) -> list[RecordedDeed]:
        """The newest deeds, or those before one.

        Raises:
            DatabaseUnavailableError: they cannot be read.
        """
        async with self._database.connection(_SECONDS) as connection:
            rows = await connection.fetch(_PAGE, before if before is not None else _BIGINT - 1, PAGE_ROWS)
        return [RecordedDeed(**row) for row in rows]

    async def _end(self, number: int, outcome: str) -> None:
        """Record the outcome; where that cannot be done the deed stays without one, for it may have been done."""
        try:
            async with self._database.connection(_SECONDS) as connection:
                await connection.execute(_END, number, outcome)
        except DatabaseUnavailableError as error:
            log.warning("console.outcome_not_recorded", id=number, outcome=outcome, reason=describe(error))

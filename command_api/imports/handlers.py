"""Carries an import to its commits: batch by batch, each in one transaction, each answered once it is committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog

from chassis.clock import milliseconds
from chassis.identifiers import with_time
from command_api.imports.lines import ImportLine, LineError, ReadLine, read_lines
from command_api.imports.places import Places
from command_api.imports.store import ImportBatch, ImportOutcome, ImportStore, NewUser, RowMaker, Taken
from command_api.passwords.formats import imported
from command_api.passwords.hashing import Passwords
from command_api.passwords.policy import PasswordPolicy
from command_api.users.context import Cause
from command_api.users.decisions import register
from command_api.users.handlers import password_refusal
from command_api.users.state import Unregistered
from outbox.notifier import Notifier

log = structlog.get_logger("import")

#: Lines of one transaction: many enough that statements and a commit cost little per line, few enough that nobody waits
#: long for a row of it.
BATCH_LINES: Final = 1000
#: Fewer of them where passwords are to be hashed: 500 hashes take 9 seconds on one core, and a client should hear of
#: its import as often as that.
BATCH_PASSWORDS: Final = 500
#: Lines that are read and made events of before other requests get their turn: one or two milliseconds of the loop.
SLICE_LINES: Final = 25
#: Or so many bytes of them, if they are long: a line of 64 KiB takes up to 15 milliseconds.
SLICE_BYTES: Final = 32 * 1024


class LineResult(NamedTuple):
    """What became of one line; `user_id` is None where the line could not be read, or a dry run would make the id."""

    number: int
    outcome: ImportOutcome | LineError
    user_id: UUID | None


class ImportSummary(NamedTuple):
    """What became of all lines."""

    created: int = 0
    unchanged: int = 0
    failed: int = 0
    dry_run: bool = False


# Looked up once: to read a member off its enum is a call in Python 3.11, and each line needs two of them.
_CREATED: Final = ImportOutcome.CREATED
_UNCHANGED: Final = ImportOutcome.UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportHandlers:
    """Carries every import; tests bring their own clock and ids."""

    store: ImportStore
    passwords: Passwords
    policy: PasswordPolicy
    notifier: Notifier
    clock: Callable[[], datetime]
    new_id: Callable[[], UUID]
    places: Places = field(default_factory=Places)

    async def run(
        self, body: bytes, cause: Cause, *, dry_run: bool = False
    ) -> AsyncGenerator[list[LineResult] | ImportSummary]:
        """Import the lines of a body: gives the results of each batch once it is committed, and the summary last.

        A dry run gives the results that it would have: it hashes nothing, locks nothing and changes nothing.

        Raises:
            DatabaseUnavailableError: it went away; every batch whose results were given is stored, no other.
            OutcomeUnknownError: it went away; whether one more batch is stored cannot be told.
        """
        created = unchanged = failed = 0
        work = _Work(read_lines(body, self.clock()), cause, Taken.nobody() if dry_run else None)
        async with aclosing(self._batches(work)) as batches:
            async for results in batches:
                news = sum(result.outcome is _CREATED for result in results)
                same = sum(result.outcome is _UNCHANGED for result in results)
                created, unchanged, failed = created + news, unchanged + same, failed + len(results) - news - same
                yield results
        summary = ImportSummary(created, unchanged, failed, dry_run)
        log.info(
            "import.complete",
            command_id=cause.command_id,
            actor=cause.actor(),
            on_behalf_of=cause.on_behalf_of,
            **summary._asdict(),
        )
        yield summary

    async def _batches(self, work: _Work) -> AsyncGenerator[list[LineResult]]:
        """Commit batch after batch, and give the results of each.

        While the database works on a batch, the one before is answered, and the next one is read and its passwords
        hashed. A batch's results are given as soon as the next one is sent, or at once where that is not ready.
        """
        done: list[LineResult] | None = None
        committing: asyncio.Task[list[LineResult]] | None = None
        preparing = asyncio.create_task(self._prepare_next(work))
        try:
            while batch := await preparing:
                committing = asyncio.create_task(self._commit(work, batch))
                preparing = asyncio.create_task(self._prepare_next(work))
                if done:
                    await asyncio.sleep(0)  # this batch is sent first
                    yield done
                done = await committing
                if not _has_succeeded(preparing):
                    # Hashing takes seconds, and even if the next batch cannot be read, the results of this one are due.
                    yield done
                    done = None
            if done:
                yield done
        finally:
            await _end(preparing, committing)

    async def _prepare_next(self, work: _Work) -> _Prepared | None:
        """The next batch, None after the last."""
        numbers: list[int] = []
        errors: dict[int, LineError] = {}
        users: dict[int, NewUser] = {}
        to_hash: dict[int, ImportLine] = {}
        brought_ids: set[int] = set()
        rows = RowMaker(self.clock(), work.cause)
        sliced = 0.0
        for number, size, read in islice(work.lines, BATCH_LINES):
            numbers.append(number)
            sliced += max(size, SLICE_BYTES / SLICE_LINES)
            if not isinstance(read, ImportLine):
                errors[number] = read
            elif read.password is not None and (refused := password_refusal(self.policy, read.password, read)):
                errors[number] = refused
            elif read.password is not None and work.taken is None:
                to_hash[number] = read
            else:
                users[number] = self._new_user(rows, read, read.password_hash and imported(read.password_hash))
            if isinstance(read, ImportLine) and read.id:
                brought_ids.add(number)
            if len(to_hash) == BATCH_PASSWORDS:
                break
            if sliced >= SLICE_BYTES:
                sliced = 0.0
                await asyncio.sleep(0)
        users.update(await self._hash(rows, to_hash))
        return _Prepared(numbers, errors, dict(sorted(users.items())), brought_ids) if numbers else None

    async def _hash(self, rows: RowMaker, lines: dict[int, ImportLine]) -> dict[int, NewUser]:
        """The users whose passwords are to be hashed."""
        secrets = [line.password for line in lines.values() if line.password is not None]
        hashes = await self.passwords.hash_all(secrets)
        users: dict[int, NewUser] = {}
        for (number, line), password_hash in zip(lines.items(), hashes, strict=True):
            users[number] = self._new_user(rows, line, password_hash)
            if not len(users) % SLICE_LINES:
                await asyncio.sleep(0)
        return users

    def _new_user(self, rows: RowMaker, line: ImportLine, password_hash: str | None) -> NewUser:
        made = line.id or self._made_id(line.created_at)
        event = register(Unregistered(made), line, rows.time)
        return rows.make(event, self.new_id(), password_hash)

    def _made_id(self, created_at: datetime | None) -> UUID:
        """An id that sorts by when the user was created."""
        made = self.new_id()
        return made if created_at is None else with_time(made, milliseconds(created_at))

    async def _commit(self, work: _Work, batch: _Prepared) -> list[LineResult]:
        """Insert a batch, or foresee what would become of it, and give the result of each line."""
        outcomes: dict[int, ImportOutcome | LineError] = dict(batch.errors)
        if batch.users:
            users = ImportBatch([*batch.users.values()])
            found = self.store.insert(users) if work.taken is None else self.store.foresee(users, work.taken)
            outcomes.update(zip(batch.users, await found, strict=True))
        if _CREATED in outcomes.values() and work.taken is None:
            self.notifier.notify()
        named = batch.users if work.taken is None else batch.brought_ids
        ids = {number: user.id for number, user in batch.users.items() if number in named}
        return [LineResult(number, outcomes[number], ids.get(number)) for number in batch.numbers]


@dataclass(frozen=True, slots=True)
class _Work:
    """One import: its lines, why they are imported, and in a dry run what its users would have taken so far."""

    lines: Iterator[ReadLine]
    cause: Cause
    taken: Taken | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Lines by their numbers, ready to be sent; the users in the order of their lines."""

    numbers: list[int]
    errors: dict[int, LineError]
    users: dict[int, NewUser]
    #: The ids of the lines that brought one.
    brought_ids: set[int]


def _has_succeeded(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel those that still run and wait for all; their errors were raised before, or nobody waits for them."""
    left = [task for task in tasks if task]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)

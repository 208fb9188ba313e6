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

from command_api.imports.lines import ImportLine, LineError, ReadLine, read_lines
from command_api.imports.places import Places
from command_api.imports.store import ImportBatch, ImportOutcome, ImportStore, NewUser, RowMaker
from command_api.passwords.hashing import Passwords
from command_api.passwords.policy import PasswordPolicy
from command_api.users.context import Cause
from command_api.users.decisions import register
from command_api.users.new_passwords import refusal
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
    """What became of one line; `user_id` is None where the line could not be read."""

    number: int
    outcome: ImportOutcome | LineError
    user_id: UUID | None


class ImportSummary(NamedTuple):
    """What became of all lines."""

    created: int = 0
    unchanged: int = 0
    failed: int = 0


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

    async def run(self, body: bytes, cause: Cause) -> AsyncGenerator[list[LineResult] | ImportSummary]:
        """Import the lines of a body: gives the results of each batch once it is committed, and the summary last.

        Raises:
            DatabaseUnavailableError: it went away; every batch whose results were given is stored, no other.
            OutcomeUnknownError: it went away; whether one more batch is stored cannot be told.
        """
        created = unchanged = failed = 0
        async with aclosing(self._batches(read_lines(body), cause)) as batches:
            async for results in batches:
                news = sum(result.outcome is _CREATED for result in results)
                same = sum(result.outcome is _UNCHANGED for result in results)
                created, unchanged, failed = created + news, unchanged + same, failed + len(results) - news - same
                yield results
        summary = ImportSummary(created, unchanged, failed)
        log.info(
            "import.complete",
            command_id=cause.command_id,
            actor=cause.actor(),
            on_behalf_of=cause.on_behalf_of,
            **summary._asdict(),
        )
        yield summary

    async def _batches(self, lines: Iterator[ReadLine], cause: Cause) -> AsyncGenerator[list[LineResult]]:
        """Commit batch after batch, and give the results of each.

        While the database works on a batch, the one before is answered, and the next one is read and its passwords
        hashed. A batch's results are given as soon as the next one is sent, or at once where that is not ready.
        """
        done: list[LineResult] | None = None
        committing: asyncio.Task[list[LineResult]] | None = None
        preparing = asyncio.create_task(self._prepare_next(lines, cause))
        try:
            while batch := await preparing:
                committing = asyncio.create_task(self._commit(batch))
                preparing = asyncio.create_task(self._prepare_next(lines, cause))
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

    async def _prepare_next(self, lines: Iterator[ReadLine], cause: Cause) -> _Prepared | None:
        """The next batch, None after the last."""
        numbers: list[int] = []
        errors: dict[int, LineError] = {}
        users: dict[int, NewUser] = {}
        to_hash: dict[int, ImportLine] = {}
        rows = RowMaker(self.clock(), cause)
        sliced = 0
        for number, size, read in islice(lines, BATCH_LINES):
            numbers.append(number)
            sliced += max(size, SLICE_BYTES // SLICE_LINES)
            if not isinstance(read, ImportLine):
                errors[number] = read
            elif read.password_hash is not None:
                users[number] = self._new_user(rows, read, read.password_hash)
            elif read.password and (refused := refusal(self.policy, read.password, read)):
                errors[number] = refused
            else:
                to_hash[number] = read
            if len(to_hash) == BATCH_PASSWORDS:
                break
            if sliced >= SLICE_BYTES:
                sliced = 0
                await asyncio.sleep(0)
        users.update(await self._hash(rows, to_hash))
        return _Prepared(numbers, errors, dict(sorted(users.items()))) if numbers else None

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

    def _new_user(self, rows: RowMaker, line: ImportLine, password_hash: str) -> NewUser:
        event = register(Unregistered(line.id or self.new_id()), line, rows.time)
        return rows.make(event, self.new_id(), password_hash)

    async def _commit(self, batch: _Prepared) -> list[LineResult]:
        """Insert a batch, and give the result of each line."""
        outcomes: dict[int, ImportOutcome | LineError] = dict(batch.errors)
        inserted = await self.store.insert(ImportBatch([*batch.users.values()])) if batch.users else []
        outcomes.update(zip(batch.users, inserted, strict=True))
        if _CREATED in outcomes.values():
            self.notifier.notify()
        ids = {number: user.id for number, user in batch.users.items()}
        return [LineResult(number, outcomes[number], ids.get(number)) for number in batch.numbers]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Lines by their numbers, ready to be sent; the users in the order of their lines."""

    numbers: list[int]
    errors: dict[int, LineError]
    users: dict[int, NewUser]


def _has_succeeded(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel those that still run and wait for all; their errors were raised before, or nobody waits for them."""
    left = [task for task in tasks if task]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)

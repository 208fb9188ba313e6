"""An import's way: batch by batch, each in one transaction, each answered as soon as it is committed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog

from chassis.http.problems import Problem
from command_api.causes import Cause
from command_api.http.errors import BUSY, CONFLICT, EMAIL_TAKEN, USER_ERASED, USERNAME_TAKEN
from command_api.imports.lines import ImportLine, ReadLine, read_lines
from command_api.imports.store import Batch, ImportStore, Newcomers, NewUser, Outcome
from command_api.passwords.hashing import RETRY_AFTER_SECONDS, Passwords
from command_api.users.decisions import register
from command_api.users.state import Unregistered
from command_api.users.store import ContendedError
from outbox.notifier import Notifier

log = structlog.get_logger("import")

#: Lines of one transaction: large enough that statements and a commit cost little per line, small enough that nobody
#: waits long for a row of it.
BATCH_LINES: Final = 1000
#: Fewer of them where passwords are to be hashed, which takes 9 seconds on one core: so often an import is heard of.
BATCH_PASSWORDS: Final = 500
#: Lines that are read and made events of before others get their turn: one or two milliseconds of the loop.
SLICE_LINES: Final = 25
#: Imports at once in one process: each holds its whole body, and more would only share the same cores.
IMPORTS_AT_ONCE: Final = 2


class Result(NamedTuple):
    """What became of one line, and how that is answered."""

    status: str
    line: bytes


# By names of their own: to read a member off its enum is a call in Python 3.11, and each line asks for two.
_CREATED: Final = Outcome.CREATED
_UNCHANGED: Final = Outcome.UNCHANGED
_PROBLEMS: Final = {
    Outcome.EMAIL_TAKEN: EMAIL_TAKEN,
    Outcome.USERNAME_TAKEN: USERNAME_TAKEN,
    Outcome.ERASED: USER_ERASED,
    Outcome.CONTENDED: CONFLICT,
}
_DETAILS: Final = {Outcome.ERASED: "the person with this id was erased; leave the id out to register them anew"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportHandlers:
    """Clock and ids are given, so that tests can give their own."""

    store: ImportStore
    passwords: Passwords
    notifier: Notifier
    clock: Callable[[], datetime]
    new_id: Callable[[], UUID]
    running: set[object] = field(default_factory=set)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the IMPORTS_AT_ONCE places.

        Raises:
            Problem: busy; all are taken.
        """
        if len(self.running) >= IMPORTS_AT_ONCE:
            raise Problem(
                BUSY,
                f"{IMPORTS_AT_ONCE} imports run in this process; send yours when one has ended",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        place = object()
        self.running.add(place)
        try:
            yield
        finally:
            self.running.discard(place)

    async def run(self, body: bytes, cause: Cause) -> AsyncGenerator[bytes]:
        """Import the lines of a body: gives one result a line as NDJSON, a batch at a time, and the summary last.

        Raises:
            DatabaseUnavailableError: it went away; every batch whose results were given is there.
        """
        counts: Counter[str] = Counter()
        async with aclosing(self._batches(read_lines(body), cause)) as batches:
            async for done in batches:
                yield _told(done, counts)
        summary = {name: counts[name] for name in ("created", "unchanged", "failed")}
        log.info("import.complete", command_id=cause.command_id, **summary)
        yield _line({"complete": True, **summary})

    async def _batches(self, lines: Iterator[ReadLine], cause: Cause) -> AsyncGenerator[Iterator[Result]]:
        """Commit batch after batch; gives the results of each at the latest when the next one is not ready to be sent.

        While the database works on a batch the one before is answered, and the next one read and its passwords hashed.
        """
        done: Iterator[Result] | None = None
        committing: asyncio.Task[Iterator[Result]] | None = None
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
                    # Hashing takes seconds, and what is committed is told even if the next batch cannot be read.
                    yield done
                    done = None
            if done:
                yield done
        finally:
            await _end(preparing, committing)

    async def _prepare_next(self, lines: Iterator[ReadLine], cause: Cause) -> _Prepared | None:
        """The next batch, None after the last."""
        numbers: list[int] = []
        problems: dict[int, Problem] = {}
        users: dict[int, NewUser] = {}
        open_: dict[int, ImportLine] = {}
        newcomers = Newcomers(self.clock(), cause)
        for number, read in islice(lines, BATCH_LINES):
            numbers.append(number)
            if isinstance(read, Problem):
                problems[number] = read
            elif read.password_hash is None:
                open_[number] = read
            else:
                # At once: what was read and decided is gone before the next line is.
                users[number] = self._new_user(newcomers, read, read.password_hash)
            if len(open_) == BATCH_PASSWORDS:
                break
            if not len(numbers) % SLICE_LINES:
                await asyncio.sleep(0)
        users.update(await self._hashed(newcomers, open_))
        groups = [(group, Batch(list(group.values()), newcomers.time)) for group in _distinct(users)]
        return _Prepared(numbers, problems, users, groups) if numbers else None

    async def _hashed(self, newcomers: Newcomers, lines: dict[int, ImportLine]) -> dict[int, NewUser]:
        """Those whose passwords are to be hashed."""
        secrets = [line.password for line in lines.values() if line.password is not None]
        hashes = await self.passwords.hash_all(secrets)
        users: dict[int, NewUser] = {}
        for (number, line), password_hash in zip(lines.items(), hashes, strict=True):
            users[number] = self._new_user(newcomers, line, password_hash)
            if not len(users) % SLICE_LINES:
                await asyncio.sleep(0)
        return users

    def _new_user(self, newcomers: Newcomers, line: ImportLine, password_hash: str) -> NewUser:
        event = register(Unregistered(line.id or self.new_id()), line, newcomers.time)
        return newcomers.add(event, self.new_id(), password_hash)

    async def _commit(self, batch: _Prepared) -> Iterator[Result]:
        """Insert a batch; gives each line's result, made when it is asked for."""
        outcomes: dict[int, Outcome | Problem] = dict(batch.problems)
        for group, prepared in batch.groups:
            outcomes.update(await self._insert(group, prepared))
        if Outcome.CREATED in outcomes.values():
            self.notifier.notify()
        return (_result(number, batch.users.get(number), outcomes[number]) for number in batch.numbers)

    async def _insert(self, group: dict[int, NewUser], batch: Batch) -> dict[int, Outcome | Problem]:
        try:
            by_id = await self.store.insert(batch)
        except ContendedError:
            refused = Problem(CONFLICT, CONFLICT.meaning)
            return dict.fromkeys(group, refused)
        return {number: by_id[user.id] for number, user in group.items()}


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A batch by the numbers of its lines, ready to be sent: in groups, because an id may come twice."""

    numbers: list[int]
    problems: dict[int, Problem]
    users: dict[int, NewUser]
    groups: list[tuple[dict[int, NewUser], Batch]]


def _has_succeeded(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel those that still run and see all to their end; what went wrong in them was told, or comes too late."""
    left = [task for task in tasks if task]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _told(results: Iterator[Result], counts: Counter[str]) -> bytes:
    told = list(results)
    counts.update(result.status for result in told)
    return b"".join(result.line for result in told)


def _distinct(users: dict[int, NewUser]) -> Iterator[dict[int, NewUser]]:
    """The users in groups without a repeated id: the second line with one must see what became of the first."""
    left = dict(sorted(users.items()))
    while left:
        group: dict[int, NewUser] = {}
        taken: set[UUID] = set()
        for number, user in left.items():
            if user.id not in taken:
                taken.add(user.id)
                group[number] = user
        yield group
        left = {number: user for number, user in left.items() if number not in group}


def _result(number: int, user: NewUser | None, outcome: Outcome | Problem) -> Result:
    if outcome is _CREATED or outcome is _UNCHANGED:
        assert user is not None
        status = "created" if outcome is _CREATED else "unchanged"
        # By hand, because it is the answer to nearly every line.
        return Result(status, f'{{"line":{number},"status":"{status}","id":"{user.id}"}}\n'.encode())
    match outcome:
        case Outcome():
            kind = _PROBLEMS[outcome]
            problem = _problem(Problem(kind, _DETAILS.get(outcome, kind.meaning)))
        case Problem():
            problem = _problem(outcome)
    return Result("failed", _line({"line": number, "status": "failed", "problem": problem}))


def _problem(problem: Problem) -> dict[str, Any]:
    kind = problem.type
    document: dict[str, Any] = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": problem.detail}
    return document | ({"errors": list(problem.errors)} if problem.errors else {})


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"

"""An import lets other requests have their turns: counted is what it does between two turns of the loop, not time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from chassis.lifecycle import end_task
from command_api.http import imports as routes
from command_api.imports import handlers
from command_api.imports.handlers import SLICE_BYTES, SLICE_LINES, ImportHandlers
from command_api.imports.lines import LINE_BYTES, ReadLine, read_lines
from tests.integration.command_api.imports.sent_lines import HEADERS, body_of, line


class Work:
    """What was done since the loop's last turn, and the most between two of them."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}

    def count(self, what: str, much: int = 1) -> None:
        self.now[what] = self.now.get(what, 0) + much
        self.most[what] = max(self.most.get(what, 0), self.now[what])

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        async def turn() -> None:
            while True:
                self.now.clear()
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        yield
        await end_task(turning)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work()

    def reading(*arguments: Any) -> Iterator[ReadLine]:
        for read in read_lines(*arguments):
            work.count("lines")
            work.count("bytes", read[1])
            yield read

    def counting(what: str, done: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            work.count(what)
            return done(*arguments)

        return counted

    monkeypatch.setattr(handlers, "read_lines", reading)
    monkeypatch.setattr(ImportHandlers, "_new_user", counting("users", ImportHandlers._new_user))
    monkeypatch.setattr(routes, "_encode_result", counting("answers", routes._encode_result))
    return work


async def imported(api: httpx.AsyncClient, work: Work, body: bytes) -> dict[str, Any]:
    async with work.counted():
        answer = await api.post("/users/import", content=body, headers=HEADERS)
    summary: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
    return summary


async def test_many_short_lines_are_read_and_answered_a_few_at_a_time(api: httpx.AsyncClient, work: Work) -> None:
    lines = [line(f"user{number}") for number in range(1500)]

    summary = await imported(api, work, body_of([*lines, *[b"{}"] * 500]))

    assert (summary["created"], summary["failed"]) == (1500, 500)
    assert work.most["lines"] <= SLICE_LINES
    assert work.most["answers"] <= routes.WRITTEN_LINES


async def test_few_long_lines_are_read_one_at_a_time(api: httpx.AsyncClient, work: Work) -> None:
    long = [line(f"user{number}", unknown="x" * (LINE_BYTES - 500)) for number in range(50)]

    summary = await imported(api, work, body_of(long))

    assert summary["failed"] == 50
    # One more than a slice has begun, where the one before it was nearly a slice.
    assert work.most["bytes"] <= SLICE_BYTES + LINE_BYTES
    assert work.most["lines"] == 1


async def test_users_whose_passwords_were_hashed_are_made_a_few_at_a_time(api: httpx.AsyncClient, work: Work) -> None:
    lines = [
        {"email": f"{name}@example.com", "username": name, "password": f"one of many long phrases: {name}!"}
        for name in (f"person{number}" for number in range(200))
    ]

    summary = await imported(api, work, body_of(lines))

    assert summary["created"] == 200
    assert work.most["users"] <= SLICE_LINES

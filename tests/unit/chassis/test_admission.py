"""Turns: how much is worked on at once, who waits, who is refused, and what that keeps nobody from."""

import asyncio
from contextvars import copy_context

import pytest
import structlog
from starlette.types import Message, Receive, Scope, Send

from chassis.http import admission
from chassis.http.admission import Admission, InTurn, RefuseWhenBehind, leave_place
from chassis.http.problems import Problem
from chassis.http.transport.client import Client
from chassis.http.transport.client import client as sender

WITH_BODY = [(b"content-length", b"3")]


class Work:
    """An app that reads the body and works until it is told to end."""

    def __init__(self, *, waits: bool = False) -> None:
        self.begun: list[str] = []
        self.may_end = asyncio.Event()
        self.waits = waits

    async def __call__(self, scope: Scope, receive: Receive, _: Send) -> None:
        if scope["headers"]:
            while (await receive()).get("more_body"):
                pass
        self.begun.append(scope["path"])
        if self.waits:
            leave_place(scope)
        await self.may_end.wait()


class Requests:
    """Requests to an app behind an admission."""

    def __init__(self, work: Work, *, at_once: int = 1) -> None:
        self.work = work
        self.admission = Admission(at_once)
        self.app = RefuseWhenBehind(InTurn(work, admission=self.admission), admission=self.admission)
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, path: str, *body: Message, client: Client | None = None) -> None:
        """Send one; returns once it works, waits or is refused."""
        messages = iter(body)

        async def receive() -> Message:
            await asyncio.sleep(0)
            for message in messages:
                return message
            return await asyncio.Future()

        scope = {"type": "http", "path": path, "headers": WITH_BODY if body else []}
        context = copy_context()
        context.run(sender.set, client or Client())
        self.tasks.append(asyncio.create_task(self.app(scope, receive, send), context=context))
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self) -> list[BaseException | None]:
        """Let all work end; gives how each request ended."""
        self.work.may_end.set()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


async def send(_: Message) -> None:
    raise AssertionError("nothing is answered here")


def refused(ended: BaseException | None) -> bool:
    if ended is None:
        return False
    assert isinstance(ended, Problem)
    assert (ended.type.slug, ended.type.status, ended.headers) == ("busy", 503, {"Retry-After": "1"})
    return True


@pytest.fixture
def is_behind_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever waits has waited for too long."""
    monkeypatch.setattr(admission, "BEHIND_SECONDS", -1.0)


async def test_so_many_work_at_once_and_the_others_in_order() -> None:
    work = Work()
    requests = Requests(work, at_once=2)
    for path in "abcd":
        await requests.ask(path)

    assert (work.begun, requests.admission.waiting) == (["a", "b"], 2)
    assert await requests.end() == [None] * 4
    assert work.begun == ["a", "b", "c", "d"]


async def test_who_comes_while_the_queue_takes_too_long_is_refused_unread(is_behind_at_once: None) -> None:
    requests = Requests(Work())
    for path in "ab":
        await requests.ask(path)

    await requests.ask("c", {"type": "http.request", "body": b"no!", "more_body": True})

    assert requests.tasks[-1].done()
    assert [refused(ended) for ended in await requests.end()] == [False, False, True]


async def test_whoever_asks_for_health_is_not_refused_and_does_not_wait(is_behind_at_once: None) -> None:
    work = Work()
    requests = Requests(work)
    for path in ("a", "b", "/health", "/livez", "/readyz"):
        await requests.ask(path)

    assert work.begun == ["a", "/health", "/livez", "/readyz"]
    await requests.end()


async def test_who_has_waited_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LONGEST_SECONDS", 0.02)
    requests = Requests(Work())
    await requests.ask("a")
    await requests.ask("b")
    await asyncio.wait(requests.tasks[1:], timeout=30)

    assert [refused(ended) for ended in await requests.end()] == [False, True]
    await requests.ask("more")
    assert requests.work.begun == ["a", "more"], "the place is free again"
    await requests.end()


async def test_the_turn_of_who_has_left_is_the_next_ones() -> None:
    work, client = Work(), Client()
    requests = Requests(work)
    await requests.ask("a")
    await requests.ask("left", client=client)
    await requests.ask("cancelled")
    await requests.ask("b")
    client.waits = False
    requests.tasks[2].cancel()
    await requests.end()

    assert work.begun == ["a", "b"]


async def test_a_body_on_its_way_keeps_nobody_out() -> None:
    work = Work()
    requests = Requests(work)
    half: Message = {"type": "http.request", "body": b"h", "more_body": True}
    await requests.ask("half", half)
    await requests.ask("whole", half, {"type": "http.request", "body": b"alf"})
    await requests.ask("next")

    assert (work.begun, requests.admission.waiting) == (["whole"], 1)
    requests.tasks[0].cancel()
    await requests.end()


async def test_who_waits_for_something_else_holds_no_place() -> None:
    work = Work(waits=True)
    requests = Requests(work)
    for path in "abc":
        await requests.ask(path)

    assert work.begun == ["a", "b", "c"]
    await requests.end()


async def test_an_overload_is_two_lines_in_the_log(is_behind_at_once: None) -> None:
    with structlog.testing.capture_logs() as logs:
        requests = Requests(Work())
        for path in "abcdef":
            await requests.ask(path)
        await requests.end()

    assert [entry["event"] for entry in logs] == ["http.overloaded", "http.overload_over"]

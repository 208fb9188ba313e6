"""Turns: how much is worked on at once, who waits, who is refused, and what that keeps nobody from."""

import asyncio
import selectors
from collections.abc import Coroutine
from contextvars import copy_context
from typing import NamedTuple

import pytest
import structlog
from starlette.types import Message, Receive, Scope, Send

from chassis.http.overload import admission
from chassis.http.overload.admission import Admission, InTurn, RefuseWhenBehind, leave_place
from chassis.http.overload.throughput import Throughput
from chassis.http.problems import Problem
from chassis.http.transport.client import Client
from chassis.http.transport.client import client as sender
from tests.unit.chassis.transport.serving import listening
from tests.waiting import until

HALF: Message = {"type": "http.request", "body": b"h", "more_body": True}
REST: Message = {"type": "http.request", "body": b"alf"}


class Work:
    """An app that reads the body that is on its way, if any, and works until it is told to end."""

    def __init__(self, *, waits: bool = False, reads: bool = True) -> None:
        self.begun: list[str] = []
        self.bodies: list[list[Message]] = []
        self.reads = reads
        self.may_end = asyncio.Event()
        self.waits = waits

    async def __call__(self, scope: Scope, receive: Receive, _: Send) -> None:
        if self.waits:
            leave_place(scope)
        if self.reads and not sender.get().has_sent_all:
            while (await receive()).get("more_body"):
                pass
        self.begun.append(scope["path"])
        if not self.reads:
            self.bodies.append([await receive(), await receive()])
        await self.may_end.wait()


class Requests:
    """Requests to an app behind an admission."""

    def __init__(self, work: Work, *, at_once: int = 1) -> None:
        self.work = work
        self.admission = Admission(at_once)
        self.app = RefuseWhenBehind(InTurn(work, admission=self.admission), admission=self.admission)
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, path: str, *body: Message, client: Client | None = None, method: str = "POST") -> None:
        """Send one; returns once it works, waits or is refused."""
        messages = iter(body)

        async def receive() -> Message:
            await asyncio.sleep(0)
            for message in messages:
                return message
            return await asyncio.Future()

        scope = {"type": "http", "method": method, "path": path}
        context = copy_context()
        context.run(sender.set, client or Client(has_sent_all=not body))
        self.tasks.append(asyncio.create_task(self._serve(scope, receive), context=context))
        for _ in range(10):
            await asyncio.sleep(0)

    async def _serve(self, scope: Scope, receive: Receive) -> None:
        await self.app(scope, receive, send)

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


async def test_as_many_may_wait_as_get_their_turn_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(Throughput):
        def forget(self) -> None:
            super().forget()
            self.best = 2.0

    monkeypatch.setattr(admission, "Throughput", Two)
    requests = Requests(Work())
    for path in ("a", "waits", "waits", "waits", "is too many"):
        await requests.ask(path)

    assert requests.tasks[-1].done()
    assert [refused(ended) for ended in await requests.end()] == [False, False, False, False, True]


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
    with structlog.testing.capture_logs() as logs:
        await requests.end()

    assert work.begun == ["a", "b"]
    assert logs == [], "one who leaves is no overload"


async def test_a_body_on_its_way_keeps_nobody_out() -> None:
    work = Work()
    requests = Requests(work)
    await requests.ask("half", HALF)
    await requests.ask("whole", HALF, REST)
    await requests.ask("next")

    assert (work.begun, requests.admission.waiting) == (["whole"], 1)
    requests.tasks[0].cancel()
    await requests.end()


async def test_who_waits_for_something_else_holds_no_place() -> None:
    work = Work(waits=True)
    requests = Requests(work)
    for path in "ab":
        await requests.ask(path)
    for path in "cd":
        # Each leaves its place before it has one.
        await requests.ask(path, HALF, REST)

    assert work.begun == ["a", "b", "c", "d"]
    await requests.end()


@pytest.mark.parametrize("rest", [b"\r\n", b"Content-Length: 0\r\n\r\n", b"Content-Length: 1\r\n\r\nx"])
async def test_a_request_that_came_whole_waits_for_its_turn_whoever_reads_its_body(
    monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    monkeypatch.setattr(admission, "LONGEST_SECONDS", 60.0)
    may_end = asyncio.Event()
    turns = Admission(1)

    async def reads_no_body(_: Scope, __: Receive, send: Send) -> None:
        await may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def one_waits() -> bool:
        return turns.waiting == 1

    async with (
        listening(InTurn(reads_no_body, admission=turns)) as listener,
        await listener.connect() as first,
        await listener.connect() as second,
    ):
        for client in (first, second):
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + rest)
        await until(one_waits, within=60, what="one of them waits")
        may_end.set()

        assert [(await client.answer()).status for client in (first, second)] == [200, 200]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_what_has_not_come_whole_is_not_worked_on_by_an_app_that_reads_no_body(method: str) -> None:
    work = Work(reads=False)
    requests = Requests(work)
    await requests.ask("half", HALF, method=method)
    await requests.ask("whole", HALF, REST, method=method)
    await requests.ask("next", HALF, REST, method=method)

    assert (work.begun, requests.admission.waiting) == (["whole"], 1)
    assert work.bodies == [[HALF, REST]], "it may still read it"
    requests.tasks[0].cancel()
    await requests.end()


async def test_an_overload_is_two_lines_in_the_log(is_behind_at_once: None) -> None:
    with structlog.testing.capture_logs() as logs:
        requests = Requests(Work())
        for path in "abcdef":
            await requests.ask(path)
        await requests.end()

    assert [entry["event"] for entry in logs] == ["http.overloaded", "http.overload_over"]


async def test_an_overload_is_over_once_all_who_waited_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Requests(Work())
    await requests.ask("a")
    with structlog.testing.capture_logs() as logs, monkeypatch.context() as patched:
        patched.setattr(admission, "LONGEST_SECONDS", 0.02)
        await requests.ask("late")
        await asyncio.wait(requests.tasks[1:], timeout=30)
    await requests.ask("b")
    await requests.ask("c")

    assert [entry["event"] for entry in logs] == ["http.overloaded", "http.overload_over"]
    assert requests.admission.waiting == 2, "nobody is behind"
    assert [refused(ended) for ended in await requests.end()] == [False, True, False, False]


class Hours(selectors.DefaultSelector):
    """Lets a loop's time pass at once instead of waiting for it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class QuickLoop(asyncio.SelectorEventLoop):
    """A loop in which hours pass within no time."""

    def __init__(self) -> None:
        self._hours = Hours()
        super().__init__(self._hours)

    def time(self) -> float:
        return self._hours.now


class Load(NamedTuple):
    """What became of requests that came at a rate, to a process that serves 800 a second."""

    refused: int
    late: int
    longest: float


async def load(rate: int, seconds: float, *, stands_still_until: float = 0.0) -> Load:
    loop, turns, waited, late = asyncio.get_running_loop(), Admission(8), list[float](), 0

    async def ask(came: float) -> None:
        nonlocal late
        try:
            await turns.take()
        except Problem:
            late += 1
            return
        await asyncio.sleep(max(stands_still_until - loop.time(), 0) + 0.01)
        turns.free()
        waited.append(loop.time() - came)

    refused = 0
    async with asyncio.TaskGroup() as group:
        for _ in range(int(rate * seconds)):
            if turns.refuses("/users"):
                refused += 1
            else:
                group.create_task(ask(loop.time()))
            await asyncio.sleep(1 / rate)
    return Load(refused, late, max(waited))


def quickly(work: Coroutine[None, None, Load]) -> Load:
    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        return runner.run(work)


def test_what_comes_while_the_database_stands_still_for_a_second_is_served() -> None:
    refused, late, longest = quickly(load(400, 3, stands_still_until=1.0))

    assert (refused, late) == (0, 0)
    assert longest == pytest.approx(1.02, abs=0.05)


@pytest.mark.parametrize("times", [3, 10])
def test_under_a_lasting_overload_nobody_waits_much_longer_than_a_second(times: int) -> None:
    refused, late, longest = quickly(load(times * 800, 5))

    assert late == 0
    assert longest < 1.2
    assert refused == pytest.approx((times - 1) * 800 * 5, rel=0.15)

"""Limits how much one process takes on: so many requests are worked on at once, the others wait for their turn.

Without it three times as many requests as a process can serve end its service: each gets a part of its work done, and
hardly any all of it before its time is over.

Guarantees: turns come in the order in which requests came whole. A request is refused (`busy`) at its head, before any
of it is looked at, while as many wait as get their turn in QUEUED_SECONDS, or those whose turn comes have waited for
BEHIND_SECONDS; and in the queue after LONGEST_SECONDS. What was refused has cost nothing but its head, and nothing was
done. Health is answered whatever waits. The memory of those who wait is bounded by connections, each of which has one
request under way.

Oldest first: all who wait are served within a time that is worth waiting, so there is little to gain by letting the
newest pass, and much to lose: who came first would wait in vain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Final, NamedTuple

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.http.health import PROBES
from chassis.http.middleware import replayed
from chassis.http.overload.throughput import Throughput
from chassis.http.problems import BUSY, Problem
from chassis.http.transport.client import Client, client
from chassis.outages import Outage

log = structlog.get_logger("http")

#: Requests at work that help a process: more than its database's connections, so that none of these rests, and few
#: enough that the loop gets round to everybody within milliseconds.
AT_ONCE: Final = 64
#: A client that comes while the queue takes longer is better told to come back: at twice the load it would only become
#: longer. What comes in while PostgreSQL stands still for a second is served, where it is no more than can be.
QUEUED_SECONDS: Final = 1.0
#: The same, where the pace is not known, or was better than it is.
BEHIND_SECONDS: Final = 1.5
#: A burst of thousands is served within it. With the 2.5 s that a command may take, clients have an answer within 5 s.
LONGEST_SECONDS: Final = 2.0
#: Seconds until a refused client may come again.
RETRY_SECONDS: Final = 1
#: An app that works on one of these may never ask for its body, and so never be told that all of it is here.
_MEANT_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_PLACE: Final = "muster.place"
_MORE: Final = "more requests come than this process can serve"


def refused() -> Problem:
    """The 503 of whoever is behind too many."""
    detail = "this process has more to do than it can do in time; nothing was done for this request"
    return Problem(BUSY, detail, headers={"Retry-After": str(RETRY_SECONDS)})


class Admission:
    """The requests of one process under way; used in one loop."""

    def __init__(self, at_once: int) -> None:
        """Nothing to do yet; `at_once` requests are worked on at the same time."""
        self._free = at_once
        self._queue: deque[_Turn] = deque()
        self._throughput = Throughput()
        #: Seconds that the last one to leave the queue had waited.
        self._waited = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._overload = Outage(log, "http.overloaded", "http.overload_over")

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their turn."""
        return len(self._queue)

    def refuses(self, path: str) -> bool:
        """Whether a request that comes now is not to begin: the queue takes longer than is worth waiting."""
        if path in PROBES or not self._queue:
            return False
        if self._waited <= BEHIND_SECONDS and len(self._queue) <= self._throughput.best * QUEUED_SECONDS:
            return False
        self._overload.failed(_MORE)
        return True

    async def take(self) -> None:
        """Wait for a place; hand it back with `free`.

        Raises:
            Problem: 503, it did not come within LONGEST_SECONDS, or the client has left meanwhile.
        """
        if self._free:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn = _Turn(loop.create_future(), loop.time(), client.get())
        self._queue.append(turn)
        self._set_timer()
        try:
            await turn.came
        except asyncio.CancelledError:
            if not turn.came.cancelled() and turn.came.exception() is None:
                self.free()
            raise

    def free(self) -> None:
        """Give the place to the next who waits for it."""
        while self._queue:
            if self._ends_waiting(self._queue.popleft()):
                return
        self._free += 1

    def _ends_waiting(self, turn: _Turn) -> bool:
        """Let one begin, which waits no more in the queue; False where it does not want to any more."""
        now = asyncio.get_running_loop().time()
        self._waited = now - turn.since
        wants = not turn.came.done()
        if wants and turn.client.waits:
            self._throughput.note(now)
            turn.came.set_result(None)
        elif wants:
            turn.came.set_exception(refused())  # and nobody is there to hear it: one who left is no overload
        self._end_overload()
        return wants and turn.client.waits

    def _end_overload(self) -> None:
        """The next to come is not behind anybody where nobody waits any more."""
        if not self._queue:
            self._waited = 0.0
            self._throughput.forget()
            self._overload.over()

    def _set_timer(self) -> None:
        if self._timer is None and self._queue:
            self._timer = asyncio.get_running_loop().call_at(self._queue[0].since + LONGEST_SECONDS, self._be_late)

    def _be_late(self) -> None:
        """Refuse those who have waited for too long."""
        self._timer = None
        longest = asyncio.get_running_loop().time() - LONGEST_SECONDS
        while self._queue and (self._queue[0].since <= longest or self._queue[0].came.done()):
            late = self._queue.popleft()
            if not late.came.done():
                self._waited = LONGEST_SECONDS
                late.came.set_exception(self._refused())
        self._end_overload()
        self._set_timer()

    def _refused(self) -> Problem:
        self._overload.failed(_MORE)
        return refused()


class _Turn(NamedTuple):
    """One request in the queue."""

    came: asyncio.Future[None]
    #: The loop's time.
    since: float
    client: Client


class RefuseWhenBehind:
    """Refuses at the head; to be put ahead of whatever costs anything."""

    def __init__(self, app: ASGIApp, *, admission: Admission) -> None:
        """Wrap `app`."""
        self._app = app
        self._admission = admission

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request.

        Raises:
            Problem: 503.
        """
        if scope["type"] == "http" and self._admission.refuses(scope["path"]):
            raise refused()
        return self._app(scope, receive, send)


class InTurn:
    """Lets requests begin when it is their turn; to be put behind what may refuse them.

    One whose body is on its way takes its place when all of it is here: slow ones keep nobody else out, and none is
    worked on without a place.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission) -> None:
        """Wrap `app`."""
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            Problem: 503.
        """
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        place = scope[_PLACE] = _Place(self._admission)
        try:
            if client.get().has_sent_all:
                await place.take()
                await self._app(scope, receive, send)
            elif scope["method"] in _MEANT_WITHOUT_BODY:
                messages = await _whole_body(receive)
                await place.take()
                await self._app(scope, replayed(messages, receive), send)
            else:
                await self._app(scope, _taking_when_whole(place, receive), send)
        finally:
            place.leave()


def leave_place(scope: Scope) -> None:
    """Let another request begin in this one's place: what it does from now on is waiting, bounded by other means."""
    place: _Place | None = scope.get(_PLACE)
    if place:
        place.leave()


class _Place:
    """The place of one request, if it has one."""

    __slots__ = ("_admission", "_is_left", "_is_taken")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._is_taken = self._is_left = False

    async def take(self) -> None:
        """Take it, unless it was left: whoever waits may still listen to its client."""
        if not self._is_left:
            await self._admission.take()
            self._is_taken = True

    def leave(self) -> None:
        """Leave it for good."""
        self._is_left = True
        if self._is_taken:
            self._is_taken = False
            self._admission.free()


async def _whole_body(receive: Receive) -> list[Message]:
    """All messages of a body, which a limit around this keeps short."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def _taking_when_whole(place: _Place, receive: Receive) -> Receive:
    is_whole = False

    async def taking() -> Message:
        nonlocal is_whole
        message = await receive()
        if not is_whole and not message.get("more_body", False):
            is_whole = True
            await place.take()
        return message

    return taking

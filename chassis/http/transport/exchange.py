"""One request and its answer: what an ASGI app receives and sends, as HTTP/1.1.

A body that breaks off, comes too slowly, or is half here when the process stops is a problem that `receive` raises, as
long as no answer has begun; so whoever reads the body answers it like any other refusal.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Collection
from fcntl import ioctl
from http import HTTPStatus
from termios import TIOCOUTQ
from typing import Final, NamedTuple, Protocol

import structlog
from starlette.types import ASGIApp, Message, Scope

from chassis.http.problems import Problem
from chassis.http.transport.client import Client, client
from chassis.http.transport.outlet import Outlet
from chassis.http.transport.refusals import explained, stopped, unexpected

log = structlog.get_logger("http")

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
_WITHOUT_BODY: Final = frozenset({204, 304})
_INT: Final = struct.Struct("i")
#: For SO_LINGER: a close is a reset, and what waits to be sent is let go.
_AT_ONCE: Final = struct.pack("ii", 1, 0)

Header = tuple[bytes, bytes]


class Prompt(NamedTuple):
    """A whole answer, given at once."""

    status: int
    headers: list[Header]
    body: bytes


#: By this name an app's lifespan leaves what may answer requests ahead of the app: it is asked with the scope and the
#: body of each that is here whole, with nothing behind it, and gives None where the app is to see it.
TURN_AWAY: Final = "muster.turn_away"
#: By this name it may leave a `MayWait` (connections.py), or None.
MAY_WAIT: Final = "muster.may_wait"
#: By this name an app finds, in the scope of a request, what only an answer without an end needs.
LONG_ANSWER: Final = "muster.long_answer"


class LongAnswer(Protocol):
    """What an answer may ask for that goes on for as long as the client stays."""

    #: Called when the process is told to stop, which waits for answers, and when the client sends its end while the
    #: answer is under way: the app ends its own.
    on_stop: Callable[[], None]
    #: The process was told to stop, maybe before `on_stop` was set.
    is_stopping: bool

    def cut_off_above(self, unread: int) -> None:
        """From now on do not wait for the client: end the connection where it leaves more bytes than these unread."""

    def cut_off(self) -> None:
        """Wait for the client no longer: end the connection now; what it has not taken is not sent any more."""

    def unread(self) -> int:
        """Bytes of the answer that the client's system has not taken, as far as ours tells; 0 once it has ended."""


class Wire(Protocol):
    """What an exchange needs of its connection."""

    transport: asyncio.Transport
    outlet: Outlet

    @property
    def lines(self) -> list[bytes]:
        """The headers that every answer has, as they are sent."""

    def resume_reading(self) -> None:
        """The app has taken what came of the body."""

    def may_follow(self) -> bool:
        """Whether the rest of the body is short enough to be passed over, so that another request can follow."""

    def answered(self) -> None:
        """The answer is complete."""

    def close(self) -> None:
        """End the connection once the client has read what was sent; only so it learns of an answer cut short."""

    def give_way(self) -> None:
        """End the connection at once, whatever of the answer has not been read."""


class Exchange:
    """One request, from its head to the end of its answer."""

    __slots__ = (
        *(
            "keep_alive",
            "awaits_continue",
            "has_begun",
            "is_answered",
            "client",
            "_wire",
            "_scope",
            "_body",
        ),
        *("_has_news", "_failure", "_is_gone", "_has_body", "_left", "_is_chunked", "_cuts_off", "on_stop"),
        *("is_stopping", "_head"),
    )

    def __init__(self, wire: Wire, scope: Scope, *, keep_alive: bool, is_whole: bool, awaits_continue: bool) -> None:
        self.keep_alive = keep_alive
        #: The client sends the body once it is told to.
        self.awaits_continue = awaits_continue
        #: An answer has begun.
        self.has_begun = False
        self.is_answered = False
        self.client = Client(has_sent_all=is_whole)
        self._wire = wire
        self._scope = scope
        self._body = bytearray()
        self._has_news = asyncio.Event()
        if is_whole:
            self._has_news.set()
        self._failure: Problem | None = None
        self._is_gone = False
        self._has_body = True
        #: Of the answer, while it waits for what follows it.
        self._head = b""
        #: Bytes that Content-Length still promises of the answer; None where it is sent in chunks, or up to the end.
        self._left: int | None = 0
        self._is_chunked = False
        self.is_stopping = False
        #: Where the client reads too slowly it is not waited for.
        self._cuts_off = False
        #: What an answer that ends by itself does when the process is told to stop: nothing.
        self.on_stop: Callable[[], None] = lambda: None

    @property
    def is_whole(self) -> bool:
        """The body has come to its end."""
        return self.client.has_sent_all

    @property
    def buffered(self) -> int:
        """Bytes of the body that wait for the app."""
        return len(self._body)

    def feed(self, body: bytes) -> None:
        """More of the body has come."""
        if not self.is_answered:
            self._body += body
            self._has_news.set()

    def complete(self) -> None:
        """The body has come whole."""
        self.client.has_sent_all = True
        self.awaits_continue = False
        self._has_news.set()

    def fail(self, problem: Problem) -> None:
        """The body will not come whole."""
        self.keep_alive = False
        self._failure = problem
        self._has_news.set()

    def cut_off_above(self, unread: int) -> None:
        """Do not wait for the client any more; its next request has another connection."""
        self.keep_alive = False
        self._cuts_off = True
        if not self._is_gone:
            self._wire.transport.set_write_buffer_limits(high=unread)

    def cut_off(self) -> None:
        """End the connection now, and have the system let go what it holds."""
        self.keep_alive = False
        if not (self._is_gone or self._wire.transport.is_closing()):
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self._wire.give_way()

    def unread(self) -> int:
        """Bytes of the answer that wait here, or in our system."""
        transport = self._wire.transport
        if self._is_gone or transport.is_closing():
            return 0
        waiting = ioctl(self._socket().fileno(), TIOCOUTQ, bytes(_INT.size))
        return transport.get_write_buffer_size() + int(_INT.unpack(waiting)[0])

    def _socket(self) -> socket.socket:
        found: socket.socket = self._wire.transport.get_extra_info("socket")
        return found

    def leave(self) -> None:
        """The connection has ended."""
        self._is_gone = True
        self.client.waits = False
        self._has_news.set()

    async def run(self, app: ASGIApp) -> None:
        """Let the app answer; whatever it does, there is an answer or the connection ends."""
        client.set(self.client)  # of this task alone
        self._scope[LONG_ANSWER] = self
        try:
            await app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            await self._end_with(stopped())
            raise
        except Exception as error:
            is_explained = isinstance(error, Problem) and not self.has_begun
            if not is_explained:
                log.exception("http.unexpected_error")
            await self._end_with(error if isinstance(error, Problem) else unexpected())
        else:
            if not (self.is_answered or self._is_gone):
                log.error("http.no_answer")
                await self._end_with(unexpected())
        finally:
            # Each holds the other, and the collector of such rings comes late.
            del self._scope[LONG_ANSWER]

    async def receive(self) -> Message:
        """ASGI's.

        Raises:
            Problem: the body will not come whole, and no answer has begun.
        """
        if self.awaits_continue:
            self.awaits_continue = False
            self._wire.outlet.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not (self._failure or self._is_gone or self.is_answered):
            self._wire.resume_reading()
            await self._has_news.wait()
            self._has_news.clear()
        if self._failure and not self.has_begun:
            raise self._failure
        if self._failure or self._is_gone or self.is_answered:
            return {"type": "http.disconnect"}
        body = bytes(self._body)
        self._body.clear()
        return {"type": "http.request", "body": body, "more_body": not self.is_whole}

    async def send(self, message: Message) -> None:
        """ASGI's; what is sent to a client that has left is passed over."""
        if room := self._wire.outlet.room:
            await room.wait()
        if self._is_gone:
            await asyncio.sleep(0)  # an app that only sends would never hear of it
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._go_on(message.get("body", b""), is_last=not message.get("more_body", False))
            if self._cuts_off and self._wire.outlet.room and not self._is_gone:
                self._wire.give_way()

    def _begin(self, status: int, headers: Collection[Header]) -> None:
        assert not self.has_begun
        self.has_begun = True
        self.awaits_continue, awaited = False, self.awaits_continue
        self._has_body = self._scope["method"] != "HEAD" and status not in _WITHOUT_BODY
        lines = [_STATUS_LINES[status], *self._wire.lines, *[name + b": " + value for name, value in headers]]
        given = dict(headers)
        self._left = int(given[b"content-length"]) if b"content-length" in given else None
        if given.get(b"connection") == b"close":
            self.keep_alive = False
        if self._left is None and self._has_body:
            self._is_chunked = self._scope["http_version"] == "1.1"
            self.keep_alive = self.keep_alive and self._is_chunked
            if self._is_chunked:
                lines.append(b"transfer-encoding: chunked")
        # A client that awaits 100 Continue and gets a final answer may send its body or a new request. We cannot tell
        # which, so we close.
        self.keep_alive = self.keep_alive and (self.is_whole or (not awaited and self._wire.may_follow()))
        if not self.keep_alive and b"connection" not in given:
            lines.append(b"connection: close")
        self._head = _joined(lines)
        if self._left is None and self._has_body:
            self._write(b"")  # a stream may begin long before its first bytes

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        assert self.has_begun
        assert not self.is_answered
        if not self._has_body:
            self._left = None
            self._write(b"")
        elif self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._write(chunk + b"0\r\n\r\n" if is_last else chunk)
        else:
            self._write(self._counted(body))
        if is_last:
            if self._left:
                raise RuntimeError(f"the answer lacks {self._left} bytes of its Content-Length")
            self.is_answered = True
            self._body.clear()  # nobody takes it any more; full, it would have the rest of the body wait
            self._has_news.set()
            self._wire.answered()

    def _write(self, data: bytes) -> None:
        """Send, with the head before it where that has not gone out: each write is a call of the system."""
        self._wire.outlet.write(self._head + data)
        self._head = b""

    def _counted(self, body: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
        return body

    async def _end_with(self, problem: Problem) -> None:
        """Explain what went wrong, or, where some of the answer has gone out, break off."""
        if self._is_gone or self.is_answered:
            return
        if self.has_begun and not self._head:
            self._wire.close()
            return
        self._head, self.has_begun = b"", False
        await explained(problem, instance=self._scope["path"])(self._scope, self.receive, self.send)


def prompt_bytes(prompt: Prompt, common: list[bytes], *, keep_alive: bool) -> bytes:
    """An answer as it is sent; `common` are the lines that every answer has."""
    lines = [_STATUS_LINES[prompt.status], *common, *[name + b": " + value for name, value in prompt.headers]]
    if not keep_alive:
        lines.append(b"connection: close")
    return _joined(lines) + prompt.body


def _joined(lines: list[bytes]) -> bytes:
    """The head of an answer.

    Raises:
        RuntimeError: a value has a line's end in it, and would become a field of its own.
    """
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise RuntimeError("a header has a control character in its value")
    return head + b"\r\n\r\n"

"""One connection of a client, on any listener: bytes come in, requests go to the app, one after the other.

The parser (llhttp) is given no more than one request: up to the empty line that ends a head, then as much as
Content-Length or the sizes of chunks say. So whatever a client sends, memory holds one request
and at most one read of what follows it; reading pauses until that one is answered. Every bound is looked at before the
bytes go to the parser, which joins what comes in pieces.

A client that closes its side for writing gets its answers. Whether it has left instead shows only in writing to it: so
it is sent, one byte a second, what every answer begins with; also while reading pauses, as no end is told then. A
client that is refused while it still sends is listened to for a while: closing at once would reset the connection, and
the answer could be lost on the way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, cast

import httptools
from httptools.parser.errors import HttpParserError, HttpParserUpgrade
from starlette.types import ASGIApp, Scope
from uvicorn import Config
from uvicorn.server import ServerState

from chassis.http.problems import Problem
from chassis.http.transport import refusals
from chassis.http.transport.chunks import Chunks
from chassis.http.transport.connections import Connections
from chassis.http.transport.exchange import MAY_WAIT, TURN_AWAY, Exchange, Header, Prompt, prompt_bytes
from chassis.http.transport.framing import (
    end_of_empty_lines,
    end_of_lines,
    host_and_port,
    request_scope,
    without_upgrade,
)
from chassis.http.transport.limits import (
    BUFFERED_BYTES,
    FORGETTING_SECONDS,
    HEAD_BYTES,
    HEAD_FIELDS,
    PARSED_BYTES,
    STOPPING_SECONDS,
    TARGET_BYTES,
    Pace,
)
from chassis.http.transport.outlet import Outlet

_NEVER: Final = math.inf


class HttpConnection(asyncio.Protocol):
    """What uvicorn makes of each connection that it accepts."""

    transport: asyncio.Transport
    outlet: Outlet
    #: Of the last body that came so.
    _chunks: Chunks

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        if not config.loaded:
            config.load()
        self._app: ASGIApp = config.loaded_app
        self._app_state = app_state
        self._server = server_state
        self._connections = connections
        self._limits = connections.limits
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None  # while a head is awaited or comes
        #: What came and has not gone to the parser, from `_at` on: after a request that is being answered.
        self._data = b""
        self._at = 0
        #: When the client, or we, must have got on: what happens then, `look` knows.
        self._deadline = _NEVER
        #: Nothing that comes is taken for a request any more.
        self._is_ending = False
        self._is_finished_sending = False
        self._is_paused = False
        self._received = 0
        self._body_pace = Pace(self._limits.bytes_per_second)
        self._forget_request()

    def _forget_request(self) -> None:
        self._head = bytearray()
        #: Bytes of a body by Content-Length that have not come; None where it comes in chunks.
        self._left: int | None = 0
        self._forget_head()

    def _forget_head(self) -> None:
        self._target = b""
        self._headers: list[Header] = []
        self._method = self._version = ""
        self._keeps_alive = self._has_head = self._is_whole = False

    # What the parser calls: it takes any exception for a wrong request, so nothing is decided here.

    def on_url(self, url: bytes) -> None:
        """More of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field; those after the last chunk are left out."""
        if not self._has_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._has_head = True
        self._method = self._parser.get_method().decode("ascii")
        self._version = self._parser.get_http_version()
        self._keeps_alive = self._version == "1.1" and self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """More of the body."""
        self._received += len(body)
        if self._exchange:
            self._exchange.feed(body)

    def on_message_complete(self) -> None:
        """The request has ended."""
        self._is_whole = True

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self.outlet = Outlet(self.transport, self._limits.bytes_per_second)
        ends = {"client": "peername", "server": "sockname"}
        self._ends = {end: host_and_port(transport.get_extra_info(name)) for end, name in ends.items()}
        self._server.connections.add(self)  # type: ignore[arg-type] # it names its own classes, and asks for `shutdown`
        self._deadline = self._loop.time() + self._limits.head_seconds
        if not self._connections.admit(self):
            self._is_finished_sending = True  # as far as we care: there is no room to listen on
            self._refuse(refusals.full(), "")

    def connection_lost(self, exc: Exception | None) -> None:
        """End; who works on a request is told."""
        del exc  # a client may leave whenever it likes
        self._server.connections.discard(self)
        self._connections.remove(self)
        self._is_ending = True
        self.resume_writing()
        if self._exchange:
            self._exchange.leave()
        # Each holds the other, and the collector of such rings comes late.
        self._exchange = self._parser = None  # type: ignore[assignment] # nothing comes any more

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent whole is answered."""
        self._is_finished_sending = True
        if not self._data and self._is_broken_off():
            return True
        if self._exchange is None:
            return bool(self._data)  # what came waits for its turn to be read, and is looked at again after it
        if self._exchange.is_answered:
            self.close()
        else:
            if not self._data:
                self._exchange.keep_alive = False
            if self._exchange.has_begun:
                # Clients of an answer without an end do not close one half: who does has left.
                self._exchange.on_stop()
            self._find_out_whether_it_left()
        return True

    def _is_broken_off(self) -> bool:
        """Whether the client has ended in the midst of a request, which is refused."""
        exchange = self._exchange
        if exchange is None and self._head:
            self._refuse(refusals.broken_off(), "malformed")
        elif exchange and not (exchange.is_whole or exchange.is_answered or self._is_ending):
            self._break_body_off(refusals.broken_off(), "malformed")
        else:
            return False
        return True

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self.outlet.fill()

    def resume_writing(self) -> None:
        """It has caught up, or left."""
        self.outlet.clear()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._is_ending:
            self._pause_reading()
            self._loop.call_later(FORGETTING_SECONDS, self.resume_reading)
        else:
            self._data = self._data[self._at :] + data if self._data else data
            self._at = 0
            if self._exchange:
                self.read()
            else:
                self._connections.in_turn(self, self._data, self._at, self._app_state.get(MAY_WAIT))
                if len(self._data) > BUFFERED_BYTES:
                    self._pause_reading()

    # Reading

    def read(self) -> None:
        """Read up to the end of a request; what comes after it stays until that one is answered."""
        try:
            rest_waits = self._read_on(self._at + PARSED_BYTES)
        except (HttpParserError, HttpParserUpgrade):
            rest_waits = False
            if self._exchange:
                self._break_body_off(refusals.unreadable(), "malformed")
            else:
                self._refuse(refusals.unreadable_head(bytes(self._head)), "malformed")
        if rest_waits:
            self._pause_reading()
            return
        self._data = b""
        if self._exchange is None:
            self._connections.rests(self)
        if self._exchange is None or self._exchange.buffered <= BUFFERED_BYTES:
            self.resume_reading()
        self._end_if_over()

    def _read_on(self, stop: int) -> bool:
        """Read as far as one turn has time for, of chunks up to `stop`; tell whether the rest has to wait."""
        while self._at < len(self._data) and not self._is_ending:
            if self._exchange is None:
                if self._head or self._skip_line_ends():
                    self._read_head()
            elif self._exchange.is_whole:
                if self._skip_line_ends():
                    return True
            elif self._left is None and self._at >= stop:
                self._connections.read_later(self)
                return True
            else:
                self._read_body(self._exchange)
        return False

    def _take(self, stop: int) -> bytes:
        part = self._data[self._at : stop]
        self._at = stop
        return part

    def _skip_line_ends(self) -> bool:
        """Pass over ends of lines before a head, which begin none (RFC 9112, section 2.2); tell whether one begins."""
        self._at = end_of_empty_lines(self._data, self._at)
        return self._at < len(self._data)

    def _read_head(self) -> None:
        """Give the parser what is of the head, as far as a head may be long."""
        head = self._head
        before = bytes(head[-3:]) if head else b""
        end = end_of_lines(before, self._data, self._at)
        part = self._take(min(end, self._at + min(HEAD_BYTES - len(head), PARSED_BYTES)))
        head += part
        self._parse(part)
        if len(self._target) > TARGET_BYTES:
            self._refuse(refusals.target_too_long(), "target")
        elif len(self._headers) > HEAD_FIELDS or (len(head) >= HEAD_BYTES and not self._has_head):
            self._refuse(refusals.head_too_large(), "head")
        elif self._has_head:
            self._begin()
        elif not before:
            self._deadline = self._loop.time() + self._limits.head_seconds

    def _parse(self, head: bytes) -> None:
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            # The parser would leave the body out. A server may ignore Upgrade (RFC 9110, section 7.8): the head is read
            # again without it. Only CONNECT comes here twice.
            self._parser = httptools.HttpRequestParser(self)
            self._forget_head()
            self._parser.feed_data(without_upgrade(bytes(self._head)))

    def _begin(self) -> None:
        """Hand a request to the app as soon as its head is there."""
        try:
            self._left, awaits = refusals.framing_of(self._version, self._headers)
        except Problem as problem:
            self._refuse(problem, "malformed")
            return
        if self._left is None:
            self._chunks = Chunks()
        self._received = 0
        self._body_pace.begin_anew()
        scope = self._scope()
        if self._left != len(self._data) - self._at or not self._turns_away(scope):
            awaits_continue = awaits and not self._is_whole
            self._start(self._app, scope, keep_alive=self._keeps_alive, awaits_continue=awaits_continue)

    def _turns_away(self, scope: Scope) -> bool:
        """Answer a request that is here whole, with nothing behind it, at once, if the app has left word to."""
        turn_away: Callable[[Scope, bytes], Prompt | None] | None = self._app_state.get(TURN_AWAY)
        if self.outlet.room or not turn_away or not (prompt := turn_away(scope, self._data[self._at :])):
            return False
        self._parser.feed_data(self._take(len(self._data)))
        self._server.total_requests += 1
        self.outlet.write(prompt_bytes(prompt, self.lines, keep_alive=self._keeps_alive))
        if not self._keeps_alive:
            self.close()
        self._rest()
        return True

    def _scope(self) -> Scope:
        told = {"http_version": self._version, "method": self._method, "state": self._app_state.copy()}
        return request_scope(self._target, self._headers) | self._ends | told

    def _start(self, app: ASGIApp, scope: Scope, *, keep_alive: bool, awaits_continue: bool = False) -> None:
        self._deadline = _NEVER
        if self._is_whole:
            self._connections.works(self)
        self._exchange = Exchange(
            self, scope, keep_alive=keep_alive, is_whole=self._is_whole, awaits_continue=awaits_continue
        )
        task = self._loop.create_task(self._exchange.run(app))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _read_body(self, exchange: Exchange) -> None:
        """Give the parser what is of the body."""
        if self._left is None:
            piece = self._data[self._at : self._at + PARSED_BYTES]
            part = self._take(self._at + self._chunks.end_in(piece, 0))
        else:
            part = self._take(min(len(self._data), self._at + self._left))
            self._left -= len(part)
        self._parser.feed_data(part)
        if self._left is None and self._chunks.is_too_long:
            self._break_body_off(refusals.head_too_large(), "head")
        elif not self._is_whole:
            self._connections.rests(self)
            if exchange.buffered > BUFFERED_BYTES:
                self._pause_reading()
        else:
            if not exchange.is_stopping:  # or its work gets no longer to begin
                self._deadline = _NEVER
            self._connections.works(self)
            exchange.complete()
            if exchange.is_answered:
                self._rest()

    def _pause_reading(self) -> None:
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless what came already waits."""
        if self._is_paused and not self._data and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    # Answering

    @property
    def lines(self) -> list[bytes]:
        """The headers that every answer has; uvicorn makes them anew when the date changes."""
        return [name + b": " + value for name, value in self._server.default_headers]

    def may_follow(self) -> bool:
        """Whether the rest of the body is short enough to be passed over."""
        return self._left is not None and self._left <= BUFFERED_BYTES

    def answered(self) -> None:
        """Go on with the next request, or end."""
        self._server.total_requests += 1
        exchange = self._exchange
        if exchange is None or self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._close_after(exchange)
        elif exchange.is_whole:
            self._rest()
            if self._data:
                self._connections.in_turn(self, self._data, self._at, self._app_state.get(MAY_WAIT))
            self.resume_reading()
            self._end_if_over()
        else:
            # The rest of its body is passed over.
            self._connections.rests(self)
            self.resume_reading()

    def _rest(self) -> None:
        """Wait for the next request."""
        self._exchange = None
        self._forget_request()
        self._deadline = self._loop.time() + self._limits.keep_alive_seconds
        self._connections.rests(self)

    # Ending

    def _end_if_over(self) -> None:
        """End where the client has, and all that it sent is answered."""
        if self._is_finished_sending and not self._data and not self._is_broken_off() and self._exchange is None:
            self.close()

    def _refuse(self, problem: Problem, reason: str) -> None:
        """Answer a request of which no app hears, and end."""
        if reason:
            self._connections.refuse(reason)
        self._is_ending = True
        path = self._target[:TARGET_BYTES].partition(b"?")[0].decode("latin-1")
        scope = {"type": "http", "method": self._method, "http_version": "1.1", "path": path}
        self._start(refusals.explained(problem, instance=path), scope, keep_alive=False)

    def _break_body_off(self, problem: Problem, reason: str) -> None:
        """The rest of a body is not read any more."""
        assert self._exchange
        self._connections.refuse(reason)
        self._is_ending = True
        self._deadline = _NEVER
        self._exchange.fail(problem)
        if self._exchange.is_answered:
            self.close()

    def _close_after(self, exchange: Exchange) -> None:
        """End it after an answer, not before a client that still sends has had time to read it."""
        is_sending = self._data or not exchange.is_whole
        if self._is_finished_sending or not is_sending:
            self.close()
            return
        self._is_ending = True
        self._data = b""
        self.resume_reading()
        self._deadline = self._loop.time() + self._limits.head_seconds
        self._connections.rests(self)
        self.transport.write_eof()

    def close(self) -> None:
        """End the connection once the client has read what was sent."""
        self._is_ending = True
        self._deadline = _NEVER
        self.transport.close()

    def give_way(self) -> None:
        """End it at once."""
        self._is_ending = True
        self.transport.abort()

    def shutdown(self) -> None:
        """End, because the process does: after the answer that is under way."""
        self._connections.read_now(self)
        if self._exchange is None or self._exchange.is_answered:
            self.close()
        else:
            self._exchange.keep_alive = False
            self._exchange.is_stopping = True
            self._exchange.on_stop()
            self._deadline = self._loop.time() + STOPPING_SECONDS

    def look(self, now: float) -> None:
        """End what takes too long."""
        if now >= self._deadline and not self._connections.read_now(self):
            self._be_late()
        elif not self.outlet.is_read_in_time():
            self._connections.refuse("slow-reader")
            self.give_way()
        elif not self._sends_in_time():
            self._break_body_off(refusals.body_too_slow(self._limits.bytes_per_second), "timeout")
        elif self._is_finished_sending or self._is_paused:  # while reading is paused, nobody's end is told
            self._find_out_whether_it_left()

    def _find_out_whether_it_left(self) -> None:
        """Show it while its answer has not begun."""
        exchange = self._exchange
        if exchange and exchange.is_whole and not exchange.has_begun:
            self.outlet.send_ahead()

    def _be_late(self) -> None:
        if self._is_ending:
            # It was listened to for long enough.
            self.give_way()
        elif self._exchange and self._exchange.is_whole:
            self._deadline = _NEVER
            self._exchange.client.waits = False
        elif self._exchange:
            self._break_body_off(refusals.stopping(), "stopping")
        elif self._head:
            self._refuse(refusals.head_too_slow(self._limits.head_seconds), "timeout")
        else:
            self.close()

    def _sends_in_time(self) -> bool:
        """Whether a body that we wait for comes at the least rate."""
        exchange = self._exchange
        is_whole = exchange is None or exchange.is_whole or exchange.awaits_continue
        return self._body_pace.is_kept(self._received, is_due=not (is_whole or self._is_paused or self._is_ending))

"""The relay: publishes the outbox to Kafka, each event exactly once and each user's events in order.

How it goes, and why nothing is lost, repeated or reordered for read_committed consumers:

1. *Lead.* One relay a database holds the lock (outbox/relay/leadership.py); the others stand by.
2. *Fence.* A new producer of the same transactional id ends whatever its predecessor left open.
3. *Settle.* What hangs is mended (outbox/publishing/hanging.py); the newest record names the last batch in Kafka, and
   what of it is still in the outbox is deleted.
4. *Publish.* A page of rows, in id order, and the record that names it go out in one Kafka transaction; then the rows
   are deleted; only then the next one may commit. So at most one batch is ever in doubt, and step 3 knows which.
   With a backlog a page is read and prepared while the one before it is in flight, and sent while that one's rows are
   being deleted; without, it is read late, so that it takes along what has come.
5. *On any error*, a lost connection among them, discard the producer, prove that the lock is still held, and go back to
   step 2; or to step 1 if it is not. Two relays that each "just reconnect" would fence each other for ever.

It never skips an event, never parks one and never gives up: an outage of any length costs delay. The two exceptions are
facts that only a person can resolve (RelayStopError): then the process ends with exit code 1 and says what they are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from chassis.clock import utc_now
from chassis.kafka.client import TopicMismatchError
from chassis.lifecycle import Backoff, wait_for_event
from events.times import rfc3339
from outbox.publishing.hanging import Open, TransactionHangsError, watching
from outbox.publishing.publisher import Batches, Publisher, Reached, nothing_happens
from outbox.publishing.record import BatchRecord, RelayStopError, digest, encode
from outbox.relay import metrics
from outbox.relay.leadership import Leadership, LeadershipLostError
from outbox.relay.settlement import settle
from outbox.relay.state import RelayState
from outbox.relay.wakeup import WakeUp
from outbox.relay.work_list import WorkList
from outbox.settings import RelaySettings
from outbox.topics import check_topics

log = structlog.get_logger("outbox.relay")

#: Retries after an error: at once after a hiccup, every few seconds in an outage.
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_CAP_SECONDS: Final = 5.0
#: How long after the last event the poll stays hot.
HOT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Session:
    """What one start of the producer works with, until something is wrong with it."""

    work_list: WorkList
    publisher: Publisher
    hangs: asyncio.Event
    #: Where rows are deleted; one that fails ends the session.
    deletions: asyncio.TaskGroup
    #: Set while the rows of all that is committed are deleted: only then a batch may be committed or a page be read.
    settled: asyncio.Event

    def check(self) -> None:
        """Raise if this session must end; asked between two transactions, so that a new start has nothing to abort."""
        self.publisher.check()
        if self.hangs.is_set():
            raise TransactionHangsError("a transaction hangs on a partition")


@dataclass(frozen=True, slots=True)
class _Page:
    """A page that is ready to be published, and what must be known of it afterwards."""

    ids: list[int]
    digest: str
    appended_at: list[float]
    #: Whether there was more than a page.
    more: bool
    prepared: list[Batches]


class Relay:
    """One relay process's work; `run` is called once."""

    def __init__(
        self,
        settings: RelaySettings,
        *,
        now: Callable[[], datetime] = utc_now,
        while_leading: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        reached: Reached = nothing_happens,
    ) -> None:
        """`now` dates the record, `while_leading` is entered for a term, `reached` is called at the failpoints."""
        self.state = RelayState()
        self._settings = settings
        self._now = now
        self._while_leading = while_leading
        self._reached = reached
        self._backoff = Backoff(first=RETRY_FIRST_SECONDS, cap=RETRY_CAP_SECONDS)
        self._foreign: Open = {}
        self._last_commit = 0.0
        self._last_event = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Lead or stand by until `stopping` is set; a batch that has begun is finished.

        Raises:
            RelayStopError: only an operator can say how to go on.
        """
        while not stopping.is_set():
            try:
                await self._term(stopping)
            except RelayStopError:
                raise
            except Exception as error:  # noqa: BLE001 - an outage of any kind costs delay, never an event
                self.state.failing(error)
                await wait_for_event(stopping, self._backoff.next())
        self.state.stopped()

    async def _term(self, stopping: asyncio.Event) -> None:
        """Stand by, lead, and return when told to stop."""
        leadership = await Leadership.open(self._settings.command_database)
        try:
            while not await leadership.acquire():
                self.state.standing_by()
                if await wait_for_event(stopping, self._settings.relay_standby_poll_ms / 1000):
                    return
            async with (
                WakeUp.open(self._settings.command_database) as wakeup,
                self._while_leading(),
                _waking(wakeup, stopping, leadership.lost),
            ):
                await self._lead(leadership, wakeup, stopping)
        finally:
            await leadership.close()

    async def _lead(self, leadership: Leadership, wakeup: WakeUp, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await leadership.prove()
            try:
                await self._publish_until_told(leadership, wakeup, stopping)
            except (RelayStopError, LeadershipLostError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever failed, the way on is the same: steps 2 to 4
                self.state.failing(error)
                metrics.PRODUCER_RECREATED.inc()
                await wait_for_event(stopping, self._backoff.next())

    async def _publish_until_told(self, leadership: Leadership, wakeup: WakeUp, stopping: asyncio.Event) -> None:
        settings = self._settings
        await self._check_topics()
        work_list = await WorkList.open(
            settings.command_database, page_rows=settings.relay_page_rows, page_bytes=settings.relay_page_bytes
        )
        try:
            publisher = await Publisher.open(settings, reached=self._reached)
            self.state.beat()
            try:
                await settle(work_list, publisher, settings, self._foreign, self.state.beat)
                async with (
                    watching(settings, self._foreign) as hangs,
                    _waking(wakeup, publisher.lost, hangs),
                    asyncio.TaskGroup() as deletions,
                ):
                    session = _Session(work_list, publisher, hangs, deletions, asyncio.Event())
                    session.settled.set()
                    await self._drain(session, leadership, wakeup, stopping)
            finally:
                await publisher.close()
        finally:
            await work_list.close()

    async def _check_topics(self) -> None:
        try:
            await check_topics(self._settings)
        except TopicMismatchError as error:
            raise RelayStopError(str(error)) from error

    async def _drain(self, session: _Session, leadership: Leadership, wakeup: WakeUp, stopping: asyncio.Event) -> None:
        identity = await session.work_list.identity()
        page = await self._read(session)
        while not (stopping.is_set() or leadership.lost.is_set()):
            self.state.beat()
            session.check()
            if page.ids:
                ahead = await self._publish(page, session, identity)
                if ahead is None:
                    # Read late, after the gap: what has come meanwhile goes out with it instead of after it.
                    await self._leave_gap()
                page = ahead or await self._read(session)
            else:
                # Nothing to publish, or all of it published: only now is it sure that this relay can.
                self._well()
                await wakeup.wait(self._poll_seconds())
                page = await self._read(session)

    async def _read(self, session: _Session, flying: Sequence[int] = ()) -> _Page:
        """The next page, ready to be published."""
        await session.settled.wait()
        rows = await session.work_list.page(flying)
        return _Page(
            ids=[row["id"] for row in rows],
            digest=digest([row["event_id"] for row in rows]),
            appended_at=[row["appended_at"] for row in rows],
            more=session.work_list.more,
            prepared=await session.publisher.prepare(rows),
        )

    async def _publish(self, page: _Page, session: _Session, identity: str) -> _Page | None:
        """Publish one page and have it deleted; gives the page after it, read meanwhile, where there is a backlog."""
        await self._leave_gap()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._send(page, session, identity))
            ahead = both.create_task(self._read(session, page.ids)) if page.more else None
        return ahead.result() if ahead else None

    async def _send(self, page: _Page, session: _Session, identity: str) -> None:
        await session.publisher.publish(page.prepared, self._record(page, identity), session.settled)
        session.settled.clear()
        self._last_commit = self._last_event = time.monotonic()
        session.deletions.create_task(self._delete(page, session))

    async def _delete(self, page: _Page, session: _Session) -> None:
        await self._reached("before_delete")
        await session.work_list.delete(page.ids)
        await self._reached("after_delete")
        session.settled.set()
        self._count(page)

    def _record(self, page: _Page, identity: str) -> bytes:
        return encode(
            BatchRecord(ids=tuple(page.ids), digest=page.digest, system_identifier=identity, time=rfc3339(self._now()))
        )

    def _count(self, page: _Page) -> None:
        now = self._now().timestamp()
        metrics.PUBLISHED.inc(len(page.ids))
        metrics.PUBLISH_SECONDS.observe_all([now - appended_at for appended_at in page.appended_at])
        self._well()

    def _well(self) -> None:
        self._backoff.reset()
        self.state.leading()

    async def _leave_gap(self) -> None:
        rest = self._last_commit + self._settings.relay_gap_ms / 1000 - time.monotonic()
        if rest > 0:
            await asyncio.sleep(rest)

    def _poll_seconds(self) -> float:
        hot = time.monotonic() - self._last_event < HOT_SECONDS
        return (self._settings.relay_hot_poll_ms if hot else self._settings.relay_idle_poll_ms) / 1000


@asynccontextmanager
async def _waking(wakeup: WakeUp, *events: asyncio.Event) -> AsyncIterator[None]:
    """End the relay's waits when one of the events is set."""
    wakers = [asyncio.create_task(_wake_at(event, wakeup)) for event in events]
    try:
        yield
    finally:
        for waker in wakers:
            waker.cancel()
        await asyncio.gather(*wakers, return_exceptions=True)


async def _wake_at(event: asyncio.Event, wakeup: WakeUp) -> None:
    await event.wait()
    wakeup.wake()

"""The relay: publishes the outbox to Kafka, each event exactly once and each subject's events in order.

How it works, and why read_committed consumers find nothing lost, repeated or reordered:

1. *Lead.* For each database one relay holds the lock (outbox/relay/leadership.py); the others stand by.
2. *Fence.* A new producer with the same transactional id ends whatever its predecessor left open.
3. *Settle.* Hanging transactions are mended (outbox/publishing/hanging.py). The newest record names the last page in
   Kafka; what of it is still in the outbox is deleted (outbox/relay/settlement.py).
4. *Publish.* A page of rows, in id order, and the record that names it go out in one Kafka transaction; then the rows
   are deleted; only then the next transaction may commit. So at most one page is ever in doubt, and step 3 knows which.
   With a backlog, a page is read and prepared while the one before it is in flight, and sent while that one's rows are
   being deleted. Without a backlog, it is read late, so that it takes along what has come meanwhile.
   A row that cannot be published holds back whatever comes after it until a person acts; it is named in the table, in
   the log and in `/readyz`.
5. *On any error*, a lost connection included, discard the producer, prove that the lock is still held, and go back to
   step 2; or to step 1 if it is not. Two relays that each "just reconnect" would fence each other for ever. After two
   refusals of records, look which row is refused (outbox/publishing/probing.py).

It never skips an event, never parks one and never gives up: an outage of any length costs delay. Only a person can
resolve the facts of a RelayStopError: then the process ends with exit code 1 and says what they are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chassis.clock import utc_now
from chassis.kafka.client import TopicMismatchError
from chassis.lifecycle import Backoff, alongside, wait_for_event
from chassis.tracing.spans import Tracer
from events.times import rfc3339
from outbox.damage import KAFKA_REFUSES, Examiner
from outbox.publishing.hanging import StableOffsets, TransactionHangsError, watching
from outbox.publishing.page_marker import PageMarker, RelayStopError, digest, encode_page_marker
from outbox.publishing.probing import first_refused, refusal_in
from outbox.publishing.publisher import Failpoint, PartitionBatches, Publisher, no_failpoint
from outbox.publishing.tracing import PageTraces
from outbox.relay import metrics
from outbox.relay.division import hold_division
from outbox.relay.leadership import Leadership, LeadershipLostError
from outbox.relay.settlement import settle_last_page
from outbox.relay.state import RelayState
from outbox.relay.wakeup import WakeUp
from outbox.relay.work_list import HeldRow, WorkList
from outbox.settings import RelaySettings
from outbox.topics import check_topics

#: Retries after an error: at once after a hiccup, every few seconds in an outage.
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_CAP_SECONDS: Final = 5.0
#: Three questions to brokers, of milliseconds each; one that is frozen and still named is not waited for.
CHECK_SECONDS: Final = 5.0
#: How long after the last event the relay polls at the hot rate.
HOT_SECONDS: Final = 1.0
#: The relay looks this often whether a person has acted. Notifications do not wake it: each look may read a whole page.
HELD_POLL_SECONDS: Final = 1.0
#: One refusal may be a broker's bad moment.
REFUSALS_UNTIL_SEARCH: Final = 2


@dataclass(frozen=True, slots=True)
class _Term:
    """The time for which this relay leads."""

    leadership: Leadership
    wakeup: WakeUp
    stopping: asyncio.Event

    def is_over(self) -> bool:
        """Whether the relay was told to stop, or does not lead any more."""
        return self.stopping.is_set() or self.leadership.lost.is_set()


@dataclass(frozen=True, slots=True)
class _Session:
    """Everything that one start of the producer works with, until something goes wrong."""

    work_list: WorkList
    wakeup: WakeUp
    publisher: Publisher
    hangs: asyncio.Event
    #: Rows are deleted in here; a deletion that fails ends the session.
    deletions: asyncio.TaskGroup
    #: Set once the rows of every committed page have been deleted: only then may the next be committed, or one be read.
    settled: asyncio.Event
    identity: str

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
    #: True where there was more than a page.
    more: bool
    #: The row before which it ends, because that one cannot be published.
    held: HeldRow | None
    prepared: list[PartitionBatches]
    traces: PageTraces


class Relay:
    """The work of one relay process; `run` is called once."""

    def __init__(  # noqa: PLR0913 - one keyword for each thing that a test or the process brings
        self,
        settings: RelaySettings,
        *,
        now: Callable[[], datetime] = utc_now,
        while_leading: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        examiner: Examiner | None = None,
        failpoint: Failpoint = no_failpoint,
        tracer: Tracer | None = None,
    ) -> None:
        """`now` dates the record; `while_leading` is entered for each term; `examiner` knows which types there are."""
        self.state = RelayState()
        self._settings = settings
        self._now = now
        self._while_leading = while_leading
        self._examiner = examiner or Examiner()
        self._failpoint = failpoint
        self._tracer = tracer
        self._backoff = Backoff(first=RETRY_FIRST_SECONDS, cap=RETRY_CAP_SECONDS)
        self._foreign: StableOffsets = {}
        self._last_commit = 0.0
        #: Pages in a row of which a broker refused records.
        self._refusals = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Lead or stand by until `stopping` is set; a page that has begun is finished.

        Raises:
            RelayStopError: only an operator can say how to go on.
        """
        while not stopping.is_set():
            try:
                await self._stand_by_and_lead(stopping)
            except RelayStopError:
                raise
            except Exception as error:  # noqa: BLE001 - an outage of any kind costs delay, never an event
                self.state.failing(error)
                await wait_for_event(stopping, self._backoff.next())
        self.state.stopped()

    async def _stand_by_and_lead(self, stopping: asyncio.Event) -> None:
        leadership = await Leadership.open(self._settings.command_database)
        try:
            while not await leadership.acquire():
                self.state.standing_by()
                if await wait_for_event(stopping, self._settings.relay_standby_poll_ms / 1000):
                    return
            async with (
                leadership.kept(),
                WakeUp.open(self._settings.command_database) as wakeup,
                self._while_leading(),
                _waking_at(wakeup, stopping, leadership.lost),
            ):
                await self._lead(_Term(leadership, wakeup, stopping))
        finally:
            await leadership.close()

    async def _lead(self, term: _Term) -> None:
        while not term.stopping.is_set():
            await term.leadership.prove()
            try:
                await self._settle_and_publish(term)
            except (RelayStopError, LeadershipLostError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever failed, the way on is the same: steps 2 to 4
                self.state.failing(error)
                self._refusals += refusal_in(error) is not None
                metrics.PRODUCER_RECREATED.inc()
                await wait_for_event(term.stopping, self._backoff.next())

    async def _settle_and_publish(self, term: _Term) -> None:
        settings = self._settings
        await self._check_topics()
        work_list = await WorkList.open(
            settings.command_database,
            page_rows=settings.relay_page_rows,
            page_bytes=settings.relay_page_bytes,
            examiner=self._examiner,
        )
        try:
            publisher = await Publisher.open(settings, failpoint=self._failpoint)
            self.state.beat()
            try:
                await settle_last_page(work_list, publisher, settings, self._foreign, self.state.beat)
                if self._refusals >= REFUSALS_UNTIL_SEARCH:
                    # It fences this publisher, so what it finds is for the next session.
                    await self._name_what_is_refused(work_list)
                    return
                async with (
                    watching(settings, self._foreign) as hangs,
                    _waking_at(term.wakeup, publisher.lost, hangs),
                    asyncio.TaskGroup() as deletions,
                ):
                    identity = await work_list.identity()
                    session = _Session(work_list, term.wakeup, publisher, hangs, deletions, asyncio.Event(), identity)
                    session.settled.set()
                    await self._publish_pages(session, term)
            finally:
                await publisher.close()
        finally:
            await work_list.close()

    async def _name_what_is_refused(self, work_list: WorkList) -> None:
        rows = await work_list.page()
        # Most damage has a better name than Kafka's.
        named = next(((row, damage) for row in rows if (damage := self._examiner.damage_of(row))), None)
        if named is None and (refused := await first_refused(rows, self._settings)):
            named = refused[0], f"{KAFKA_REFUSES} ({refused[1]})"
        self._refusals = 0
        if named is not None:
            row, damage = named
            await work_list.mark(HeldRow(row["id"], row["subject_id"], damage))

    async def _check_topics(self) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check_topics(self._settings)
        except TopicMismatchError as error:
            raise RelayStopError(str(error)) from error
        await hold_division(self._settings)

    async def _publish_pages(self, session: _Session, term: _Term) -> None:
        page = await self._read(session)
        while not term.is_over():
            self.state.beat()
            session.check()
            if page.ids:
                ahead = await self._publish(page, session)
                if ahead is None:
                    # Read after the gap: what has come meanwhile goes out with it instead of after it.
                    await self._leave_gap()
                page = ahead or await self._read(session)
            elif page.held is not None:
                await self._hold(page.held, session)
                await wait_for_event(term.stopping, HELD_POLL_SECONDS)
                page = await self._read(session)
            else:
                # All is published, or there was nothing to publish: only now is it certain that this relay can.
                self._note_success()
                await term.wakeup.wait(self._poll_seconds())
                page = await self._read(session)

    async def _hold(self, row: HeldRow, session: _Session) -> None:
        await session.work_list.mark(row)
        self._backoff.reset()
        self.state.held(row)

    async def _read(self, session: _Session, in_flight: Sequence[int] = ()) -> _Page:
        """The next page, ready to be published."""
        await session.settled.wait()
        session.wakeup.forget()
        rows = await session.work_list.page(in_flight)
        return _Page(
            ids=[row["id"] for row in rows],
            digest=digest([row["event_id"] for row in rows]),
            appended_at=[row["appended_at"] for row in rows],
            more=session.work_list.more,
            held=session.work_list.held,
            prepared=await session.publisher.prepare(rows),
            traces=PageTraces(self._tracer, rows),
        )

    async def _publish(self, page: _Page, session: _Session) -> _Page | None:
        """Publish one page and have it deleted; in a backlog, return the next page, which is read meanwhile."""
        await self._leave_gap()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._send(page, session))
            ahead = both.create_task(self._read(session, page.ids)) if page.more else None
        return ahead.result() if ahead else None

    async def _send(self, page: _Page, session: _Session) -> None:
        record = PageMarker(
            ids=tuple(page.ids),
            digest=page.digest,
            system_identifier=session.identity,
            time=rfc3339(self._now()),
        )
        with page.traces.sending(self._settings.events_topic):
            await session.publisher.publish(page.prepared, encode_page_marker(record), session.settled)
        session.settled.clear()
        self._last_commit = time.monotonic()
        page.traces.published()
        session.deletions.create_task(self._delete(page, session))

    async def _delete(self, page: _Page, session: _Session) -> None:
        await self._failpoint("before_delete")
        await session.work_list.delete(page.ids)
        await self._failpoint("after_delete")
        session.settled.set()
        now = self._now().timestamp()
        metrics.PUBLISHED.inc(len(page.ids))
        metrics.PUBLISH_LATENCY.observe_all([now - appended_at for appended_at in page.appended_at])
        self._note_success()

    def _note_success(self) -> None:
        self._backoff.reset()
        self._refusals = 0
        self.state.leading()

    async def _leave_gap(self) -> None:
        rest = self._last_commit + self._settings.relay_gap_ms / 1000 - time.monotonic()
        if rest > 0:
            await asyncio.sleep(rest)

    def _poll_seconds(self) -> float:
        hot = time.monotonic() - self._last_commit < HOT_SECONDS
        return (self._settings.relay_hot_poll_ms if hot else self._settings.relay_idle_poll_ms) / 1000


@asynccontextmanager
async def _waking_at(wakeup: WakeUp, *events: asyncio.Event) -> AsyncIterator[None]:
    """End the relay's waits when one of the events is set."""
    async with alongside(*(_wake_at(event, wakeup) for event in events)):
        yield


async def _wake_at(event: asyncio.Event, wakeup: WakeUp) -> None:
    await event.wait()
    wakeup.wake()

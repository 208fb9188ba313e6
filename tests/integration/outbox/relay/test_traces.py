"""What the relay tells of traces: of each recorded event its wait, of each page its transaction."""

from dataclasses import replace

from chassis.identifiers import new_id
from chassis.tracing.context import SpanContext
from chassis.tracing.messaging import MOST_LINKS
from chassis.tracing.sampling import SamplerName
from chassis.tracing.spans import SpanKind
from outbox.headers import encode_headers
from outbox.settings import RelaySettings
from tests.integration.outbox.relaying import Fault, relaying
from tests.integration.outbox.traffic import COLUMNS, Connection, envelope
from tests.servers.otlp_collector import ReceivedSpan, Recorder
from tests.waiting import until

WITHIN = 30


def caller(number: int, *, is_sampled: bool = True) -> SpanContext:
    return SpanContext(number.to_bytes(16, "big"), number.to_bytes(8, "big"), is_sampled)


async def append(connection: Connection, *contexts: SpanContext | None) -> None:
    """One event for each, all of them in one page."""
    rows = []
    for context in contexts:
        made = envelope(new_id(), 1)
        # What a client may choose looks like a name, and is none.
        event = replace(made, correlation_id="traceparent", traceparent=context and context.traceparent)
        rows.append((event.event_id, event.subject_id, b"{}", encode_headers(event)))
    await connection.copy_records_to_table("outbox", records=rows, columns=COLUMNS.split(", "))


async def traces(settings: RelaySettings, connection: Connection, recorder: Recorder, **more: object) -> None:
    """Relay until the outbox is empty."""

    async def is_empty() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM outbox")

    async with relaying(settings, tracer=recorder.tracer, **more):
        await until(is_empty, within=WITHIN, what="the outbox to be empty")


def named(spans: list[ReceivedSpan], name: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.name == name]


async def test_each_recorded_event_tells_of_its_wait_and_the_page_links_to_all_of_them(
    relay_settings: RelaySettings, connection: Connection
) -> None:
    recorder = Recorder()
    await append(connection, caller(1), None, caller(2, is_sampled=False), caller(3))
    await traces(relay_settings, connection, recorder)

    (sent,) = named(recorder.read(), f"send {relay_settings.events_topic}")
    waits = named(recorder.read(), "outbox wait")
    assert (sent.kind, sent.parent_id, sent.attributes["messaging.batch.message_count"]) == (SpanKind.CLIENT, b"", 4)
    assert sent.links == [caller(1)[:2], caller(3)[:2]]
    assert [(wait.trace_id, wait.parent_id) for wait in waits] == sent.links
    appended = await database_time(connection)
    assert all(0 < wait.start < appended for wait in waits)


async def database_time(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp()) * 1000000000"))


async def test_a_page_of_one_event_is_a_part_of_its_trace(
    relay_settings: RelaySettings, connection: Connection
) -> None:
    recorder = Recorder()
    await append(connection, caller(1))
    await traces(relay_settings, connection, recorder)

    (sent,) = named(recorder.read(), f"send {relay_settings.events_topic}")
    assert (sent.trace_id, sent.parent_id) == caller(1)[:2]
    assert sent.links == [caller(1)[:2]]


async def test_events_of_one_request_are_told_of_once(relay_settings: RelaySettings, connection: Connection) -> None:
    recorder = Recorder()
    await append(connection, *[caller(1)] * 3)
    await traces(relay_settings, connection, recorder)

    (sent,) = named(recorder.read(), f"send {relay_settings.events_topic}")
    assert sent.links == [caller(1)[:2]]
    assert len(named(recorder.read(), "outbox wait")) == 1


async def test_of_a_large_page_some_are_told(relay_settings: RelaySettings, connection: Connection) -> None:
    recorder = Recorder()
    await append(connection, *(caller(number) for number in range(1, MOST_LINKS + 11)))
    await traces(relay_settings, connection, recorder)

    (sent,) = named(recorder.read(), f"send {relay_settings.events_topic}")
    assert len(sent.links) == len(named(recorder.read(), "outbox wait")) == MOST_LINKS


async def test_a_page_that_failed_is_told_as_one_and_its_events_still_wait(
    relay_settings: RelaySettings, connection: Connection
) -> None:
    recorder = Recorder()
    await append(connection, caller(1))
    await traces(relay_settings, connection, recorder, failpoint=Fault("before_commit"))

    failed, sent = named(recorder.read(), f"send {relay_settings.events_topic}")
    assert (failed.has_failed, failed.attributes["error.type"], sent.has_failed) == (
        True,
        "ConnectionResetError",
        False,
    )
    assert len(named(recorder.read(), "outbox wait")) == 1


async def test_nothing_is_told_of_traces_that_the_sampler_leaves_out(
    relay_settings: RelaySettings, connection: Connection
) -> None:
    name: SamplerName = "always_off"
    recorder = Recorder(name)
    await append(connection, caller(1))
    await traces(relay_settings, connection, recorder)

    assert recorder.read() == []

"""Our record batches are Kafka's: aiokafka's own decoder reads from them what was put in."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope, KafkaHeaders
from outbox.headers import decode_headers, encode_headers, headers_like, traceparent_in, varint
from outbox.publishing.record_batch import RecordBatch, encode_event, record_batches

NOW_MS = 1_795_341_600_123
#: What a bigint can hold.
MOST = 2**63 - 1
#: What is counted for length and place of a record.
PREFIX_BYTES = 12

Read = tuple[bytes | None, bytes | None, KafkaHeaders]

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
envelopes = st.builds(
    Envelope,
    event_id=st.uuids(),
    type=st.sampled_from(("muster.user.registered.v1", "muster.user.erased.v1", "muster.user.été.v2")),
    source=st.sampled_from(["/muster/users", "/muster/teams"]),
    subject_id=st.uuids(),
    version=st.integers(1, MOST),
    time=st.datetimes(timezones=st.just(UTC)),
    correlation_id=texts,
    causation_id=texts,
    actor=st.none() | texts,
    on_behalf_of=st.none() | texts,
    traceparent=st.none() | texts,
)
values = st.none() | st.binary(max_size=300)


def row(envelope: Envelope, value: bytes | None) -> Any:
    """The event as the work list gives it."""
    return {
        "subject_id": str(envelope.subject_id),
        "value": value,
        "headers": encode_headers(envelope),
    }


def decoder(batch: RecordBatch) -> Any:
    return DefaultRecordBatch(batch._build())


def read(batches: Sequence[RecordBatch]) -> list[Read]:
    return [(record.key, record.value, record.headers) for batch in batches for record in decoder(batch)]


def event(value: bytes | None = b"{}", subject_id: UUID | None = None) -> bytes:
    envelope = Envelope(
        event_id=uuid4(),
        type="muster.user.registered.v1",
        source="/muster/users",
        subject_id=subject_id or uuid4(),
        version=1,
        time=datetime.now(UTC),
        correlation_id="c",
        causation_id="d",
    )
    return encode_event(row(envelope, value))


@given(st.lists(st.tuples(envelopes, values), min_size=1, max_size=20))
def test_key_value_and_headers_are_read_as_the_envelope_says_whatever_is_in_it(
    events: list[tuple[Envelope, bytes | None]],
) -> None:
    batch = RecordBatch([encode_event(row(envelope, value)) for envelope, value in events], NOW_MS)

    assert read([batch]) == [
        (str(envelope.subject_id).encode(), value, envelope.headers()) for envelope, value in events
    ]


@given(specimen=envelopes, event_id=st.uuids(), subject_id=st.uuids())
def test_headers_like_those_of_another_event_differ_by_the_ids_alone(
    specimen: Envelope, event_id: UUID, subject_id: UUID
) -> None:
    other = replace(specimen, event_id=event_id, subject_id=subject_id)

    assert headers_like(specimen)(event_id, subject_id) == encode_headers(other)


@given(envelopes)
def test_headers_are_alike_where_every_id_of_the_specimen_is_the_same(envelope: Envelope) -> None:
    same = replace(envelope, event_id=envelope.subject_id, correlation_id=str(envelope.subject_id))

    assert headers_like(same)(envelope.event_id, envelope.subject_id) == encode_headers(
        replace(same, event_id=envelope.event_id)
    )


@given(envelopes, st.none() | st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True))
def test_the_traceparent_is_found_among_encoded_headers(envelope: Envelope, traceparent: str | None) -> None:
    encoded = encode_headers(replace(envelope, actor="traceparent", traceparent=traceparent))

    assert traceparent_in(encoded) == traceparent


def test_a_batch_says_what_it_is_and_its_checksum_is_right() -> None:
    batch = RecordBatch([event() for _ in range(300)], NOW_MS)
    batch._set_producer_state(77, 5, 4000)
    built = decoder(batch)

    assert built.validate_crc()
    assert built.is_transactional
    assert not built.is_control_batch
    assert (built.producer_id, built.producer_epoch, built.base_sequence) == (77, 5, 4000)
    assert (built.first_timestamp, built.max_timestamp) == (NOW_MS, NOW_MS)
    assert (built.base_offset, built.next_offset) == (0, 300)
    assert [(record.offset, record.timestamp) for record in built] == [(number, NOW_MS) for number in range(300)]
    assert len(batch._build()) == batch.size()


def test_a_batch_that_is_sent_again_is_the_same() -> None:
    batch = RecordBatch([event()], NOW_MS)
    batch._set_producer_state(77, 5, 4000)

    assert batch._build() == batch._build()


def test_records_are_kept_in_order_in_batches_that_are_not_too_large() -> None:
    users = [uuid4() for _ in range(1000)]
    records = [event(b"x" * 300, user) for user in users]
    batches = list(record_batches(records, NOW_MS, 20_000))

    assert len(batches) == math.ceil(1000 / (20_000 // (len(records[0]) + PREFIX_BYTES)))
    assert [key for key, _, _ in read(batches)] == [str(user).encode() for user in users]


def test_a_record_larger_than_a_batch_may_be_has_one_of_its_own() -> None:
    batches = list(record_batches([event(b"x"), event(b"y" * 5000), event(b"z")], NOW_MS, 2000))

    assert [batch.record_count() for batch in batches] == [1, 1, 1]
    assert [value for _, value, _ in read(batches)] == [b"x", b"y" * 5000, b"z"]


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, b"\0"), (-1, b"\x01"), (1, b"\x02"), (63, b"~"), (64, b"\x80\x01"), (1_000_000, b"\x80\x89z")],
)
def test_a_number_is_written_zigzag_in_as_few_bytes_as_it_takes(number: int, written: bytes) -> None:
    assert varint(number) == written


@given(envelopes)
def test_headers_are_read_as_they_were_put_in(envelope: Envelope) -> None:
    assert decode_headers(encode_headers(envelope)) == envelope.headers()


@given(envelopes, st.data())
def test_headers_that_were_cut_are_none(envelope: Envelope, data: st.DataObject) -> None:
    whole = encode_headers(envelope)

    with pytest.raises(ValueError, match="too early"):
        decode_headers(whole[: data.draw(st.integers(0, len(whole) - 1))])

"""The page marker: what it says, and what a successor makes of it."""

from uuid import uuid4

import pytest

from outbox.publishing.page_marker import (
    PageMarker,
    RelayStopError,
    decode_page_marker,
    digest,
    encode_page_marker,
    rows_in_doubt,
)

EVENTS = [(number, str(uuid4())) for number in (3, 4, 5, 9)]


def record(events: list[tuple[int, str]], database: str = "one") -> PageMarker:
    return PageMarker(
        ids=tuple(number for number, _ in events),
        digest=digest([event_id for _, event_id in events]),
        system_identifier=database,
        time="2026-11-22T10:00:00.000000Z",
    )


def test_reads_back_what_it_wrote_and_writes_ids_as_runs() -> None:
    written = encode_page_marker(record(EVENTS))

    assert b'"ids":[[3,5],[9,9]]' in written
    assert decode_page_marker(written) == record(EVENTS)


def test_a_batch_that_is_still_in_the_outbox_is_to_be_deleted() -> None:
    assert rows_in_doubt(record(EVENTS), EVENTS, "one") == [3, 4, 5, 9]


def test_a_batch_that_is_gone_leaves_nothing_to_do() -> None:
    assert rows_in_doubt(record(EVENTS), [], "one") == []


def test_other_events_under_the_same_ids_stop_the_relay() -> None:
    others = [(number, str(uuid4())) for number, _ in EVENTS]

    with pytest.raises(RelayStopError, match=r"4 events with ids 3 to 9.*muster audit.*RELAY_NAME"):
        rows_in_doubt(record(EVENTS), others, "one")


def test_a_part_of_a_batch_stops_the_relay() -> None:
    with pytest.raises(RelayStopError, match=r"holds 3 rows"):
        rows_in_doubt(record(EVENTS), EVENTS[:3], "one")


def test_another_database_stops_the_relay() -> None:
    with pytest.raises(RelayStopError, match=r"about database one, this relay serves two"):
        rows_in_doubt(record(EVENTS), EVENTS, "two")


def test_an_unknown_format_stops_the_relay() -> None:
    newer = encode_page_marker(record(EVENTS)).replace(b'"format":1', b'"format":2')

    with pytest.raises(RelayStopError, match=r"format 2, this relay knows 1.*Run that version"):
        decode_page_marker(newer)


@pytest.mark.parametrize("value", [b"", b"\xff", b"[]", b"{}", b'{"format":1,"ids":3}'])
def test_a_foreign_record_stops_the_relay(value: bytes) -> None:
    with pytest.raises(RelayStopError, match="RELAY_TOPIC of its own"):
        decode_page_marker(value)

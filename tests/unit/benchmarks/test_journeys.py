"""What a journey's clocks say: stages from the commit on, and parts that add up to the whole."""

import pytest

from benchmarks.end_to_end.client import Answer
from benchmarks.end_to_end.journeys import Journey


def test_stages_count_from_the_commit_and_parts_add_up() -> None:
    journey = Journey(due=10.0, committed=10.002, sent=10.005, topic=10.009, row=10.015, visible=10.016)

    clocks = journey.milliseconds()

    assert clocks["command"] == pytest.approx(2)
    assert clocks["on the topic"] == pytest.approx(7)
    assert clocks["in the read table"] == pytest.approx(13)
    assert clocks["visible"] == pytest.approx(14)
    assert sum(clocks[part] for part in ("relay", "Kafka", "projector", "query")) == pytest.approx(14)


def test_what_came_before_the_answer_to_the_command_counts_as_nothing() -> None:
    journey = Journey(due=10.0, committed=10.02, sent=10.005, topic=10.01, row=10.015, visible=10.021)

    clocks = journey.milliseconds()

    assert [clocks[part] for part in ("relay", "Kafka", "projector")] == [0, 0, 0]
    assert clocks["visible"] == pytest.approx(1)


def test_headers_are_found_by_their_names() -> None:
    answer = Answer(200, b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconsistency-token: AbC\r\n")

    assert answer.header(b"consistency-token") == b"AbC"
    assert answer.header(b"etag") == b""

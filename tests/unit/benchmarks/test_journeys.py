"""What a journey's clocks say: stages from the commit on, and parts that add up to the whole."""

from pathlib import Path

import pytest

from benchmarks.end_to_end.client import Answer, Client
from benchmarks.end_to_end.journeys import Journey, Travellers
from benchmarks.end_to_end.run import latencies
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan


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


class NobodyArrives(Travellers):
    """Travellers on a machine so busy that no journey ends."""

    async def at_peak(self, travellers: int, seconds: float) -> float:  # noqa: ARG002 - as the base has them
        return 0.0


async def test_a_peak_without_a_journey_is_said_and_no_parts_of_it_are_measured() -> None:
    nobody = NobodyArrives(Client(0, 0), Client(0, 0), users=1)
    plan = Plan(rounds=2, seconds=1, users=1, quick=True, folder=Path(), say=lambda _: None)
    result = Result("End to end")

    await latencies(plan, result, nobody, 1)

    (peak,) = result.measurements
    assert peak.figure.gap == "no figure in 2 of 2 rounds"

"""A position is read as it was written, by whoever knows its secret, and by nobody else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_api.log.positions import InvalidPositionError, LogPosition, PositionSeal

OLD, NEW, FOREIGN = "a" * 32, "b" * 32, "c" * 32
TOPIC = UUID(int=7)
OFFSETS = st.integers(min_value=0, max_value=2**63 - 1)
POSITIONS = st.builds(
    LogPosition,
    topic_id=st.uuids(),
    seen=st.integers(0, 2**40),
    offsets=st.lists(OFFSETS, max_size=40).map(tuple),
    newest=st.integers(0, 2**50),
    lacks_erasures=st.booleans(),
) | st.builds(LogPosition, topic_id=st.uuids(), seen=st.integers(0, 2**40), offsets=st.lists(OFFSETS).map(tuple))


@given(POSITIONS)
def test_a_position_is_read_as_it_was_written(position: LogPosition) -> None:
    assert PositionSeal([NEW]).open(PositionSeal([NEW]).seal(position)) == position


@given(st.lists(OFFSETS, min_size=12, max_size=12), st.booleans())
def test_twelve_partitions_take_at_most_two_hundred_characters_that_any_header_or_query_takes(
    offsets: list[int], lacks: bool
) -> None:
    text = PositionSeal([NEW]).seal(LogPosition(TOPIC, 2**40, tuple(offsets), 2**50, lacks_erasures=lacks))

    assert len(text) <= 200
    assert text.replace("-", "a").replace("_", "a").isalnum()


def test_the_first_secret_signs_and_all_verify() -> None:
    position = LogPosition(TOPIC, 1, (1, 2))

    assert PositionSeal([NEW, OLD]).open(PositionSeal([OLD]).seal(position)) == position
    assert PositionSeal([NEW]).open(PositionSeal([NEW, OLD]).seal(position)) == position
    with pytest.raises(InvalidPositionError):
        PositionSeal([FOREIGN]).open(PositionSeal([NEW, OLD]).seal(position))


@given(POSITIONS, st.data())
def test_a_position_with_any_bit_changed_or_cut_is_none(position: LogPosition, data: st.DataObject) -> None:
    text = PositionSeal([NEW]).seal(position)
    at = data.draw(st.integers(0, len(text) - 1))
    other = "A" if text[at] != "A" else "B"

    for wrong in (text[:at] + other + text[at + 1 :], text[:at], text + "A", text + "=", text + text):
        with pytest.raises(InvalidPositionError):
            PositionSeal([NEW]).open(wrong)


@given(st.text(max_size=300))
def test_any_other_text_is_none(text: str) -> None:
    with pytest.raises(InvalidPositionError):
        PositionSeal([NEW]).open(text)

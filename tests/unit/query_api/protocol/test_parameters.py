from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.http.problems import Problem
from chassis.identifiers import read_id
from query_api.protocol.parameters import _pairs, read_date, read_time, read_time_before, whole_number
from query_api.users.listing import UserList

READ = UserList.parameters.read


def refusal(query: str) -> Problem:
    with pytest.raises(Problem) as raised:
        READ(query.encode())
    return raised.value


def test_reads_what_was_sent_and_nothing_else() -> None:
    assert READ(b"limit=7&status=active&username=%C3%84nn") == {"limit": 7, "status": "active", "username": "änn"}
    assert READ(b"") == {}


def test_names_every_mistake_at_once() -> None:
    problem = refusal("nope=1&limit=x&status=gone&email=a&email=b&sort=-id")

    assert problem.type.status == 422
    assert [error.get("parameter") for error in problem.errors] == ["nope", "limit", "status", "email", "sort"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=1_0", "limit"),
        ("skip=-1", "skip"),
        ("email=", "email"),
        ("email=a+b@example.com", "email"),
        ("username=%00", "username"),
        ("username=" + "x" * 51, "username"),
        ("username_prefix=", "username_prefix"),
        ("id=x", "id"),
        ("id=%7B018f3c5a-7b1e-7cc2-9a51-0242ac120002%7D", "id"),
        ("created_after=2026-11-22", "created_after"),
        ("created_after=2026-11-22T08:30:00", "created_after"),
        ("created_after=2026-02-30T08:30:00Z", "created_after"),
        ("created_after=2026-11-22T08:30:00+01:00", "created_after"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "created_before"),
        ("updated_after=yesterday", "updated_after"),
        ("Status=active", "Status"),
    ],
)
def test_refuses_a_wrong_value_and_names_its_parameter(query: str, parameter: str) -> None:
    problem = refusal(query)

    assert problem.type.status == 422
    assert [error.get("parameter") for error in problem.errors] == [parameter]


@pytest.mark.parametrize("query", [b"email=%FF", b"\xff=1", b"&".join([b"id=1"] * 1001)])
def test_refuses_a_query_string_that_cannot_be_read(query: bytes) -> None:
    with pytest.raises(Problem) as raised:
        READ(query)

    assert raised.value.type.status == 400


def test_takes_200_ids_and_no_more() -> None:
    one = "id=018f3c5a-7b1e-7cc2-9a51-0242ac120002"

    assert len(READ("&".join([one] * 200).encode())["id"]) == 200
    assert "at most 200 times" in refusal("&".join([one] * 201)).detail


def test_a_deep_skip_points_to_cursors() -> None:
    assert READ(b"skip=10000") == {"skip": 10_000}
    problem = refusal("skip=10001")
    assert (problem.type.status, problem.type.slug) == (400, "skip-too-deep")
    assert "next_cursor" in problem.detail


@given(number=st.integers(min_value=1))
def test_a_limit_above_the_largest_is_the_largest(number: int) -> None:
    assert whole_number(least=1, most=200)(str(number)) == min(number, 200)


@given(time=st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.timezones()))  # noqa: DTZ001 - hypothesis wants bounds without one
def test_times_are_read_as_they_are_written(time: datetime) -> None:
    written = time.astimezone(UTC).isoformat()

    assert READ(f"created_after={quote(written)}".encode()) == {"created_after": time.astimezone(UTC)}


def test_times_may_have_offsets_small_letters_and_nanoseconds() -> None:
    assert read_time("2026-11-22t08:30:00.123456789z") == datetime(2026, 11, 22, 8, 30, 0, 123456, UTC)
    assert read_time("2026-11-22T08:30:00+01:00") == datetime(2026, 11, 22, 7, 30, tzinfo=UTC)


@given(text=st.text(max_size=40))
@pytest.mark.parametrize("read", [read_id, read_time, read_date, whole_number(least=0, most=10)])
def test_any_text_is_read_or_refused_with_a_reason(read: Callable[[str], object], text: str) -> None:
    with suppress(ValueError):
        assert read(text) is not None
        return
    with pytest.raises(ValueError, match="must"):
        read(text)


def test_a_date_is_a_day_that_exists() -> None:
    assert read_date("2024-02-29") == date(2024, 2, 29)
    with pytest.raises(ValueError, match="exists"):
        read_date("2026-02-29")


@given(text=st.text(alphabet="ab=&;,.", max_size=12))
def test_the_short_way_of_splitting_agrees_with_the_long_one(text: str) -> None:
    assert _pairs(text.encode()) == parse_qsl(text, keep_blank_values=True)


def test_an_upper_bound_at_the_end_of_all_times_is_one() -> None:
    assert read_time_before("9999-12-31T23:59:59.9999999Z").year == 9999


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("00.1234560Z", 123456), ("00.123456001Z", 123457), ("00.1Z", 100000), ("00.123455999+00:00", 123456)],
)
def test_an_upper_bound_finer_than_microseconds_is_rounded_up(text: str, microsecond: int) -> None:
    assert read_time_before(f"2026-11-22T08:30:{text}").microsecond == microsecond

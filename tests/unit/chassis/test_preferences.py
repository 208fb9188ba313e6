import pytest

from chassis.http.preferences import Preferences, parse_preferences


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("wait=5", Preferences(wait=5)),
        ("wait=0", Preferences(wait=0)),
        ("wait=11", Preferences(wait=10)),
        (f"wait={'9' * 18}", Preferences(wait=10)),
        ('wait="3"; foo=bar', Preferences(wait=3)),
        ("respond-async, WAIT = 4 , count=EXACT", Preferences(wait=4, count_exact=True)),
        ("wait=2, wait=9", Preferences(wait=2)),
        ('a="b, count=exact", wait=2', Preferences(wait=2)),
        (r'a="\"", count="exact"', Preferences(count_exact=True)),
        ("count=exact;strict", Preferences(count_exact=True)),
    ],
)
def test_reads_what_we_know(header: str, expected: Preferences) -> None:
    assert parse_preferences(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        *("", ",,;=", "wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "wait=٣", "count", "count=estimated", "=5"),
        *('count="exact', 'wait=3, count="exact', 'count="exact"x', 'wait="1;2"'),
    ],
)
def test_ignores_what_it_cannot_read(header: str) -> None:
    assert parse_preferences(header) == Preferences()


def test_a_header_as_long_as_a_head_may_be_is_read_in_one_pass() -> None:
    assert parse_preferences("a=" + " " * 60_000 + "b c, wait=3") == Preferences(wait=3)


def test_without_a_wait_it_is_one_second() -> None:
    assert parse_preferences("count=exact").wait_seconds == 1

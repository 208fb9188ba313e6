"""An outage is told of when it begins, when its reason changes, and when it ends."""

import asyncpg
import structlog
from structlog.testing import capture_logs

from chassis.outages import Outage, describe, describe_unexpected


def test_a_reason_is_told_once_and_the_end_once() -> None:
    outage = Outage(structlog.get_logger("test"), "failed", "recovered")
    with capture_logs() as lines:
        assert not outage.over()
        for reason in ("away", "away", "full", "full"):
            outage.failed(reason)
        assert outage.over()
        assert not outage.over()
        outage.failed("away")

    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("failed", "away"),
        ("failed", "full"),
        ("recovered", None),
        ("failed", "away"),
    ]


def test_a_mistake_is_described_without_the_values_that_it_quotes() -> None:
    assert describe_unexpected(ValueError("no user 'ann' <ann@example.com>\nann")) == "ValueError: no user … <…>"
    assert describe_unexpected(KeyError("ann")) == "KeyError: …"
    assert describe_unexpected(TimeoutError()) == "TimeoutError"


def test_an_error_without_text_is_described_by_its_class_and_one_of_many_lines_in_one() -> None:
    assert describe(TimeoutError()) == "TimeoutError"
    assert describe(ValueError("two\n  lines")) == "two lines"


def test_the_row_that_a_database_quotes_is_left_out() -> None:
    error = asyncpg.CheckViolationError("violates a check")
    error.detail = "Failing row contains (ada@example.com)."

    assert "ada@example.com" in str(error)
    assert describe(error) == "violates a check"

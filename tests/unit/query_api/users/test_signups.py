from datetime import date
from typing import Any

import pytest

from chassis.http.problems import Problem
from query_api.users.signups import period

TODAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (date(2026, 10, 24), TODAY)),
        ({"to": date(2026, 1, 30)}, (date(2026, 1, 1), date(2026, 1, 30))),
        ({"from": date(2026, 11, 20)}, (date(2026, 11, 20), TODAY)),
        ({"from": date(2023, 11, 22)}, (date(2023, 11, 22), TODAY)),
        ({"from": TODAY, "to": TODAY}, (TODAY, TODAY)),
        ({"to": date(1, 1, 5)}, (date(1, 1, 1), date(1, 1, 5))),
    ],
)
def test_a_period_has_both_its_days(values: dict[str, Any], expected: tuple[date, date]) -> None:
    assert period(values, today=TODAY) == expected


@pytest.mark.parametrize("values", [{"from": date(2026, 11, 23)}, {"from": TODAY, "to": date(2026, 11, 21)}])
def test_refuses_a_period_that_runs_backwards(values: dict[str, Any]) -> None:
    with pytest.raises(Problem, match="later than to"):
        period(values, today=TODAY)


def test_refuses_more_than_three_years() -> None:
    with pytest.raises(Problem, match="3 years"):
        period({"from": date(2023, 11, 21)}, today=TODAY)

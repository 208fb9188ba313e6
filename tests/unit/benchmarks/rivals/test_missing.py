"""A rival that cannot be had is said on the page, and the others are measured."""

from pathlib import Path

import httpx
import pytest

from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Result
from benchmarks.rivals.run import run_parts
from benchmarks.running.plan import Plan
from local_stack.errors import DownloadError


async def missing(_: Plan, __: Result) -> None:
    raise DownloadError("its jars could not be fetched.")


async def silent(_: Plan, __: Result) -> None:
    raise httpx.ReadTimeout("")


async def there(_: Plan, result: Result) -> None:
    result.measured("drain", Figure((1.0,)), "events/s")


async def broken(_: Plan, __: Result) -> None:
    raise AssertionError("ours lost an event")


@pytest.fixture
def plan() -> Plan:
    return Plan(rounds=1, seconds=1, users=1, quick=True, folder=Path(), say=lambda _: None)


async def test_a_rival_that_cannot_be_had_is_said_with_the_reason_and_the_next_is_measured(plan: Plan) -> None:
    result = Result("Rivals")

    await run_parts(plan, result, {"Debezium": missing, "Keycloak": there})

    assert result.notes == ["Debezium was not measured here, or not to its end: its jars could not be fetched."]
    assert [item.name for item in result.measurements] == ["drain"]


async def test_a_rival_that_does_not_answer_is_said(plan: Plan) -> None:
    result = Result("Rivals")

    await run_parts(plan, result, {"Keycloak": silent})

    assert result.notes == ["Keycloak was not measured here, or not to its end: ReadTimeout."]


async def test_a_fault_of_ours_is_no_missing_rival(plan: Plan) -> None:
    with pytest.raises(AssertionError, match="ours lost an event"):
        await run_parts(plan, Result("Rivals"), {"Debezium": broken})

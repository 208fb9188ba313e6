"""Logs show where an error came from, not what passed through, and get in nobody's way."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog
from prometheus_client import REGISTRY

from chassis.telemetry import configure_logging
from tests.waiting import until


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook, configured = root.handlers, root.level, sys.excepthook, structlog.get_config()
    yield
    root.handlers, sys.excepthook = handlers, hook
    root.setLevel(level)
    structlog.configure(**configured)


def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("test", "INFO")

    def fail(password: str) -> None:
        raise ValueError(len(password))

    try:
        fail("correct horse")
    except ValueError:
        structlog.get_logger("test").exception("test.failed")

    line = capsys.readouterr().err
    assert "test.failed" in line
    assert "ValueError" in line
    assert "correct horse" not in line


def broken() -> Exception:
    """Errors whose messages, notes and details quote a value."""
    refused = asyncpg.CheckViolationError("violates a check")
    refused.detail = "Failing row contains (hunter2)."
    with pytest.raises(ValueError, match="hunter2") as caught:
        int("hunter2")
    caught.value.add_note("hunter2")
    return ExceptionGroup("some of 'hunter2'", [caught.value, refused, KeyError('hunter2" of hunter2')])


def test_errors_are_told_without_the_values_in_their_messages(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("test", "INFO")

    structlog.get_logger("test").error("test.failed", exc_info=broken())
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: hunter2", exc_info=broken())
    sys.excepthook(Exception, broken(), None)

    out = capsys.readouterr().err
    assert "hunter2" not in out
    assert [json.loads(line)["event"] for line in out.splitlines()] == [
        "test.failed",
        "Task exception was never retrieved",
        "process.crashed",
    ]
    for told in ("invalid literal for int() with base 10: …", "violates a check", "KeyError", "test_logs.py"):
        assert out.count(told) >= 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_line_that_cannot_be_written_is_counted_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> float:
        return REGISTRY.get_sample_value("muster_log_lines_lost_total") or 0

    before = lost()
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closing it fails, too
    monkeypatch.setattr(sys, "stderr", full)
    configure_logging("test", "INFO")
    structlog.get_logger("test").info("test.happened")
    monkeypatch.undo()
    with pytest.raises(OSError, match="space"):
        full.close()

    assert lost() == before + 1


async def test_a_library_that_retries_is_heard_once_and_summed_up_once_it_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def repeated() -> float:
        return REGISTRY.get_sample_value("muster_log_lines_repeated_total", {"library": "aiokafka"}) or 0

    monkeypatch.setattr("chassis.telemetry.QUIET_SECONDS", 0.2)
    configure_logging("test", "INFO")
    before, said = repeated(), ""

    async def summed_up() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "library.lines_repeated" in said

    for number in range(100):
        logging.getLogger("aiokafka.conn").error("node %s is away", number)
        logging.getLogger("uvicorn.error").error("somebody else's line")
    await until(summed_up, within=5, what="the summary")

    assert [said.count(words) for words in ("is away", "node 0", "somebody else", '"times":99')] == [2, 1, 100, 1]
    assert repeated() == before + 99

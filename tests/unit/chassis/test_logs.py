"""Logs show where an error came from, not what passed through, and get in nobody's way."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog
from prometheus_client import REGISTRY

from chassis.last_words import last_words
from chassis.telemetry import configure_logging
from tests.waiting import until


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configured = root.handlers, root.level, structlog.get_config()
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    root.handlers = handlers
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
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


#: Not written where errors are raised, because a traceback shows the source.
VALUE = "hunter2"


def broken() -> Exception:
    """Errors whose messages, notes and details quote a value."""
    refused = asyncpg.CheckViolationError("violates a check")
    refused.detail = f"Failing row contains ({VALUE})."
    with pytest.raises(ValueError, match=VALUE) as caught:
        int(VALUE)
    caught.value.add_note(VALUE)
    bare = ValueError(f"nobody is called {VALUE}@example.com (it's unquoted), nor <{VALUE}@example.com>")
    return ExceptionGroup(f"some of '{VALUE}'", [caught.value, refused, bare, KeyError(f'{VALUE}" of {VALUE}')])


def test_errors_are_told_without_the_values_in_their_messages(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("test", "INFO")

    structlog.get_logger("test").error("test.failed", exc_info=broken())
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: hunter2", exc_info=broken())
    logging.getLogger("asyncio").error("Exception in callback int('hunter2')\nhandle: hunter2", exc_info=broken())
    sys.excepthook(Exception, broken(), None)

    out = capsys.readouterr().err
    assert "hunter2" not in out
    assert [json.loads(line)["event"] for line in out.splitlines()] == [
        "test.failed",
        "Task exception was never retrieved",
        "Exception in callback int(…)",
        "process.crashed",
    ]
    for told in ("invalid literal for int() with base 10: …", "violates a check", "KeyError", "test_logs.py"):
        assert out.count(told) >= 3


def test_what_nobody_catches_is_told_without_values_wherever_it_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("test", "INFO")

    class Unkept:
        def __del__(self) -> None:
            raise broken()

    def fail(error: BaseException) -> None:
        raise error

    for error in (broken(), SystemExit(VALUE)):
        thread = threading.Thread(target=fail, args=[error])
        thread.start()
        thread.join()
    Unkept()

    out = capsys.readouterr().err
    assert VALUE not in out
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["thread.crashed", "error.unraisable"]
    assert out.count("invalid literal for int() with base 10: …") == 2


def test_last_words_are_a_traceback_without_values() -> None:
    try:
        try:
            raise broken()
        except ExceptionGroup as error:
            raise RuntimeError(f"no user {VALUE}@example.com\n{VALUE}") from error
    except RuntimeError as error:
        told = last_words(error)

    assert VALUE not in told
    assert told.endswith("\nRuntimeError: no user …")
    assert told.index("ExceptionGroup: some of …") < told.index("RuntimeError: ")
    assert "  ValueError: invalid literal for int() with base 10: …" in told
    assert told.count("Traceback (most recent call last):") == 6
    assert "in test_last_words_are_a_traceback_without_values" in told


def test_causes_in_a_ring_are_told_once() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one

    assert last_words(one).count("ValueError: ") == 2


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

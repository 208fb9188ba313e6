"""Logs show where an error came from, not what passed through."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from chassis.telemetry import configure_logging


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


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

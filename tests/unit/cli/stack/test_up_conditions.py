import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.stack.conditions import FREE_BYTES, FREE_BYTES_AGAIN, RELEASED, SET_BACK, remedy, require_clock, require_space
from local_stack.errors import ChildFailedError, LocalStackError

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)


def ran_at(folder: Path, moment: datetime) -> None:
    log = folder / "logs" / "kafka.log"
    log.parent.mkdir()
    log.touch()
    os.utime(log, (moment.timestamp(), moment.timestamp()))


def test_a_clock_from_before_this_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match="says 1970-01-01 00:00 UTC, which is in the past: set it"):
        require_clock(tmp_path, datetime(1970, 1, 1, tzinfo=UTC))

    require_clock(tmp_path, RELEASED)


def test_a_clock_well_before_the_last_run_is_refused_and_a_small_correction_is_not(tmp_path: Path) -> None:
    ran_at(tmp_path, NOW)

    with pytest.raises(LocalStackError, match=r"last ran at 2027-03-01 12:00 UTC: set it .*muster reset"):
        require_clock(tmp_path, NOW - SET_BACK - timedelta(seconds=1))

    require_clock(tmp_path, NOW - SET_BACK)


def test_a_stack_that_has_run_needs_less_room_than_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=FREE_BYTES - 1))
    with pytest.raises(LocalStackError, match=r"Only 268 MB are free .* a new stack needs 268"):
        require_space(tmp_path)

    cluster = tmp_path / "postgres" / "data"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").touch()
    require_space(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=FREE_BYTES_AGAIN - 1))
    with pytest.raises(LocalStackError, match=r"Only 67 MB are free .* this stack needs 67"):
        require_space(tmp_path)
    with pytest.raises(LocalStackError, match=r"this stack needs 201"):
        require_space(tmp_path, standby=True)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("PANIC: could not write to file: No space left on device", "is full: make room"),
        ("java.io.IOException: Read-only file system", "is read-only"),
        ("There is insufficient memory for the Java Runtime Environment to continue.", "512 MB"),
        ("relation users does not exist", ""),
    ],
)
def test_a_child_that_died_of_its_machine_gets_a_remedy(line: str, advice: str) -> None:
    failure = ChildFailedError("postgres", "ended", Path("postgres.log"), ["before", line, "after"])

    found = remedy(failure, Path("/data"))

    assert (advice in found) if advice else (found == "")

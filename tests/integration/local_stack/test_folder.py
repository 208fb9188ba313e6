import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local_stack.errors import FolderInUseError, LocalStackError
from local_stack.folder import FOLDER_VARIABLE, end_orphans, owned_folder
from local_stack.private_file import read_or_make
from local_stack.stack_file import FILE_NAME, ProcessEntry, Stack, read, remove, write


def test_one_folder_has_one_owner_at_a_time(folder: Path) -> None:
    with owned_folder(folder / "data"), pytest.raises(FolderInUseError, match=f"process {os.getpid()}"):
        owned_folder(folder / "data").__enter__()

    with owned_folder(folder / "data"):
        assert (folder / "data").is_dir()


def test_a_lock_file_left_by_a_killed_owner_does_not_matter(folder: Path) -> None:
    (folder / "lock").write_text("1")

    with owned_folder(folder):
        assert (folder / "lock").read_text() == str(os.getpid())


def test_refuses_a_folder_that_cannot_be_made(folder: Path) -> None:
    (folder / "file").touch()

    with pytest.raises(LocalStackError, match="--folder"):
        owned_folder(folder / "file" / "data").__enter__()


def test_ends_only_the_processes_that_carry_the_folders_mark(folder: Path) -> None:
    pause = [sys.executable, "-c", "import signal; signal.pause()"]
    with (
        subprocess.Popen(pause, env={**os.environ, FOLDER_VARIABLE: str(folder)}) as orphan,
        subprocess.Popen(pause, env={**os.environ, FOLDER_VARIABLE: str(folder / "other")}) as stranger,
    ):
        try:
            ended = end_orphans(folder)

            assert ended == 1
            assert not psutil.pid_exists(orphan.pid) or psutil.Process(orphan.pid).status() == psutil.STATUS_ZOMBIE
            assert stranger.poll() is None
        finally:
            orphan.kill()
            stranger.kill()


def test_the_stack_file_is_private_and_read_back_whole(folder: Path) -> None:
    entry = ProcessEntry("relay", 1, 8002, "http://127.0.0.1:8002", "relay.log", ["muster", "relay"], {"A": "1"})
    stack = Stack(os.getpid(), "2026-11-22T00:00:00Z", str(folder), {"POSTGRES_PASSWORD": "secret"}, [entry])

    write(stack)

    assert read(folder) == stack
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert stack.environment == {"POSTGRES_PASSWORD": "secret"}


def test_the_stack_file_of_a_dead_supervisor_is_no_stack(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    assert not psutil.pid_exists(dead.pid)

    write(Stack(dead.pid, "2026-11-22T00:00:00Z", str(folder), {}))

    assert read(folder) is None


def test_there_is_no_stack_without_its_file(folder: Path) -> None:
    write(Stack(os.getpid(), "2026-11-22T00:00:00Z", str(folder), {}))

    remove(folder)
    remove(folder)

    assert read(folder) is None


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(folder: Path) -> None:
    first = read_or_make(folder / "secret", lambda: "one")
    second = read_or_make(folder / "secret", lambda: "two")

    assert first == second == "one"
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600

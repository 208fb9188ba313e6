import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from local_stack.errors import LocalStackError
from local_stack.folder import MARK_VARIABLE, STACK, Owner, end_orphans, has_lock_open, owned_folder, owner
from local_stack.private_file import read_or_make
from local_stack.stack_file import (
    ENVIRONMENT_FILE,
    FILE_NAME,
    KAFKA_CLIENT_FILE,
    ProcessEntry,
    Stack,
    read,
    remove,
    write,
)


def test_one_folder_has_one_owner_at_a_time(folder: Path) -> None:
    with owned_folder(folder / "data"), pytest.raises(LocalStackError, match=f"process {os.getpid()}"):
        owned_folder(folder / "data").__enter__()

    with owned_folder(folder / "data"):
        assert (folder / "data").is_dir()


def test_a_lock_file_left_by_a_killed_owner_does_not_matter(folder: Path) -> None:
    (folder / "lock").write_text("1")

    with owned_folder(folder):
        assert (folder / "lock").read_text() == str(os.getpid())


def test_a_lock_file_that_was_deleted_while_another_waited_for_it_is_nobodys(folder: Path) -> None:
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def delete_and_let_go() -> None:
            (folder / "lock").unlink()
            fcntl.flock(held, fcntl.LOCK_UN)

        threading.Timer(0.05, delete_and_let_go).start()

        with owned_folder(folder):
            assert owner(folder) == Owner(os.getpid(), STACK)
            with pytest.raises(LocalStackError, match="already running"):
                owned_folder(folder).__enter__()


def test_a_file_named_lock_that_is_somebodys_is_left_as_it_is(folder: Path) -> None:
    (folder / "lock").write_text("my combination: 4711")

    with pytest.raises(LocalStackError, match="is no stack's file: choose another folder with --folder"):
        owned_folder(folder).__enter__()

    assert (folder / "lock").read_text() == "my combination: 4711"


def test_an_owner_that_was_killed_is_told_from_one_that_ended_in_order(folder: Path) -> None:
    (folder / "lock").write_text("4711")

    with owned_folder(folder) as first:
        found = first.unswept  # and is not swept: the next one has to know as well
    with owned_folder(folder) as second:
        still = second.unswept
        second.unswept = False
    with owned_folder(folder) as third:
        after = third.unswept

    assert (found, still, after) == (True, True, False)


def test_only_the_process_that_holds_the_lock_counts_as_its_holder(folder: Path) -> None:
    with owned_folder(folder):
        assert has_lock_open(os.getpid(), folder)

    assert not has_lock_open(os.getpid(), folder)


@pytest.mark.parametrize("place", [".", "data", "data/below"])
def test_refuses_a_folder_where_there_is_a_file_and_names_it(folder: Path, place: str) -> None:
    file = folder / "file"
    file.touch()

    with pytest.raises(LocalStackError, match=f"since {file} is a file: choose another with --folder"):
        owned_folder(file / place).__enter__()


def test_ends_only_the_processes_that_carry_the_folders_mark(folder: Path) -> None:
    pause = [sys.executable, "-c", "import signal; signal.pause()"]
    with (
        subprocess.Popen(pause, env={**os.environ, MARK_VARIABLE: str(folder)}) as orphan,
        subprocess.Popen(pause, env={**os.environ, MARK_VARIABLE: str(folder / "other")}) as stranger,
    ):
        try:
            ended = end_orphans(folder)

            assert ended == 1
            assert not psutil.pid_exists(orphan.pid) or psutil.Process(orphan.pid).status() == psutil.STATUS_ZOMBIE
            assert stranger.poll() is None
        finally:
            orphan.kill()
            stranger.kill()


KAFKA_CLIENT = "security.protocol=SASL_PLAINTEXT\n"


def stack_on(folder: Path, pid: int) -> Stack:
    entry = ProcessEntry("relay", 1, 8002, "http://127.0.0.1:8002", "relay.log", ["muster", "relay"], {"A": "1"})
    started_at = "2026-11-22T00:00:00Z"
    return Stack(pid, started_at, None, str(folder), {"POSTGRES_PASSWORD": "secret"}, [entry])


def test_the_stack_file_is_private_and_read_back_whole(folder: Path) -> None:
    stack = stack_on(folder, os.getpid())

    with owned_folder(folder):
        write(stack, KAFKA_CLIENT)

        assert read(folder) == stack
    assert stack.settings == {"POSTGRES_PASSWORD": "secret"}
    for name in (FILE_NAME, ENVIRONMENT_FILE, KAFKA_CLIENT_FILE):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert (folder / ENVIRONMENT_FILE).read_text() == "POSTGRES_PASSWORD=secret\n"
    assert (folder / KAFKA_CLIENT_FILE).read_text() == KAFKA_CLIENT


def test_the_stack_file_of_a_dead_supervisor_is_no_stack_whatever_its_pid_belongs_to_now(folder: Path) -> None:
    write(stack_on(folder, os.getpid()), KAFKA_CLIENT)

    assert psutil.pid_exists(os.getpid())
    assert owner(folder) is None
    assert read(folder) is None


def test_who_looks_whether_a_folder_is_owned_does_not_keep_its_owner_out(folder: Path) -> None:
    (folder / "lock").write_text("1")
    with (folder / "lock").open("rb") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(look, fcntl.LOCK_UN)).start()

        with owned_folder(folder):
            assert owner(folder) == Owner(os.getpid(), STACK)


def test_there_is_no_stack_without_its_file(folder: Path) -> None:
    with owned_folder(folder):
        write(stack_on(folder, os.getpid()), KAFKA_CLIENT)

        remove(folder)
        remove(folder)

        assert read(folder) is None
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(folder: Path) -> None:
    first = read_or_make(folder / "secret", lambda: "one")
    second = read_or_make(folder / "secret", lambda: "two")

    assert first == second == "one"
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600

"""What `muster reset` deletes and what `muster up` takes over: a stack's own, and nothing else."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.main import app
from cli.stack.background import _end
from cli.stack.contents import MARKER, mark, require_own
from cli.stack.foreground import _sweep
from local_stack.errors import LocalStackError
from local_stack.folder import MARK_VARIABLE, RESET, owned_folder
from local_stack.postgres.unprivileged import PLACE_PREFIX

ROOT = Path(__file__).parents[4]
SECRETS = json.dumps({"IDEMPOTENCY_SECRET": "a", "CURSOR_KEYS": "k1:b"})


def reset(folder: Path) -> tuple[int, str]:
    """Run it without a question; gives exit code and all it said, on one line."""
    result = CliRunner().invoke(app, ["reset", "--yes", "--folder", str(folder)])
    return result.exit_code, " ".join(result.output.split())


def write(file: Path, text: str = "mine") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def a_stack(folder: Path, *, marked: bool = True) -> Path:
    """What a stack that has ended leaves, as far as reset looks at it."""
    for name in ("postgres/data/PG_VERSION", "postgres/password", "kafka/data/meta.properties"):
        write(folder / name, "18")
    for name in ("postgres-standby/data/PG_VERSION", "kafka-2/data/meta.properties", "kafka-3/server.properties"):
        write(folder / name, "18")
    for name in (
        "kafka/server.properties",
        "logs/relay.log",
        "logs/relay.log.1",
        "logs/kafka-2.log",
        "timings.json",
        "servers.json",
    ):
        write(folder / name)
    write(folder / "secrets.json", SECRETS)
    if marked:
        mark(folder)
    return folder


def test_a_stacks_data_is_deleted_whole_and_its_folder_with_it(folder: Path) -> None:
    stack = a_stack(folder / "stack")
    write(stack / "postgres" / "initdb-1" / "made-by-muster-up")
    write(stack / ".stack.json-a1b2c3d4")

    code, said = reset(stack)

    assert (code, "is deleted" in said) == (0, True), said
    assert not stack.exists()


@pytest.mark.parametrize(
    "name", ["logs/diary.txt", "postgres/schema.sql", "kafka/c.yml", "secrets.json", "stack.env", MARKER]
)
def test_a_folder_that_no_stack_made_is_neither_reset_nor_started_on(folder: Path, name: str) -> None:
    write(folder / name)

    code, said = reset(folder)

    assert code == 1
    assert f"{folder / name.partition('/')[0]} was not made by a stack" in said
    assert "by hand" in said
    with pytest.raises(LocalStackError, match=r"Choose another\."):
        require_own(folder, "Choose another.")
    assert files_in(folder) == {name}


def test_what_others_keep_in_a_stacks_folders_stays(folder: Path) -> None:
    a_stack(folder)
    others = {"logs/diary.txt", "postgres/schema.sql", "kafka/c.yml", "mine.txt", "postgres/initdb-mine/notes"}
    for name in others:
        write(folder / name)

    assert reset(folder)[0] == 0

    assert files_in(folder) == others


@pytest.mark.parametrize(
    "name",
    ["postgres/data", "postgres-standby/data", "kafka", "kafka-2/data", "logs", "secrets.json", "postgres/password"],
)
def test_a_link_of_somebodys_is_refused_before_anything_is_deleted(folder: Path, name: str) -> None:
    stack = a_stack(folder / "stack")
    target = folder / "elsewhere"
    write(target / "PG_VERSION")
    link = stack / name
    link.rename(folder / "aside")
    link.symlink_to(target)
    before = files_in(stack), files_in(target)

    code, said = reset(stack)

    assert (code, f"{link} is a link to {target} that no stack made" in said) == (1, True), said
    assert (files_in(stack) - {"lock"}, files_in(target)) == before


def test_a_link_to_somebodys_folder_that_is_named_like_ours_is_refused(folder: Path) -> None:
    """Whoever owns it is not the account that PostgreSQL runs as."""
    stack = a_stack(folder / "stack")
    target = folder.with_name(f"{PLACE_PREFIX}{os.getpid():08d}")
    diary = write(target / "diary.txt")
    try:
        (stack / "postgres" / "data").rename(folder / "aside")
        (stack / "postgres" / "data").symlink_to(target)

        assert reset(stack)[0] == 1
        assert diary.exists()
    finally:
        diary.unlink()
        target.rmdir()


def test_data_that_is_no_clusters_is_refused(folder: Path) -> None:
    a_stack(folder)
    (folder / "postgres" / "data" / "PG_VERSION").rename(folder / "postgres" / "data" / "photo.jpg")

    code, said = reset(folder)

    assert (code, "holds no PostgreSQL data" in said) == (1, True)
    assert (folder / "secrets.json").exists()
    assert (folder / "postgres" / "data" / "photo.jpg").exists()


def test_an_earlier_versions_stack_is_taken_over_by_its_secrets_and_its_servers_data(folder: Path) -> None:
    a_stack(folder, marked=False)

    assert require_own(folder, "") is True
    mark(folder)
    assert require_own(folder, "") is False


@pytest.mark.parametrize("missing", ["secrets.json", "servers"])
def test_half_of_what_tells_an_earlier_versions_stack_is_not_enough(folder: Path, missing: str) -> None:
    a_stack(folder, marked=False)
    if missing == "servers":
        (folder / "postgres" / "data" / "PG_VERSION").unlink()
        (folder / "kafka" / "data" / "meta.properties").unlink()
    else:
        write(folder / "secrets.json", '{"mine": 1}')

    with pytest.raises(LocalStackError, match="was not made by a stack"):
        require_own(folder, "")


def test_an_earlier_versions_stack_can_be_reset(folder: Path) -> None:
    stack = a_stack(folder / "stack", marked=False)

    assert reset(stack)[0] == 0

    assert not stack.exists()


def test_the_folder_of_a_stack_that_started_after_a_reset_is_not_reset_again(folder: Path) -> None:
    stack = a_stack(folder / "stack")
    assert reset(stack)[0] == 0
    with owned_folder(stack):
        mark(stack)

        code, said = reset(stack)

        assert (code, "A stack is already running" in said) == (1, True)
        assert (stack / "lock").exists()


def test_what_a_run_left_that_was_killed_before_it_wrote_anything_down_is_ended(folder: Path) -> None:
    (folder / "lock").write_text("4711")
    said = io.StringIO()
    pause = [sys.executable, "-c", "import signal; signal.pause()"]
    with (
        subprocess.Popen(pause, env={**os.environ, MARK_VARIABLE: str(folder)}) as orphan,
        owned_folder(folder) as ownership,
    ):
        try:
            _sweep(folder, ownership, Console(file=said))

            assert orphan.poll() is not None
        finally:
            orphan.kill()
    assert "1 of its processes" in said.getvalue()
    assert (folder / "lock").read_text() == ""


def test_an_interrupted_start_that_does_not_end_is_one_sentence(tmp_path: Path) -> None:
    said = io.StringIO()
    stubborn = "import signal; signal.signal(2, signal.SIG_IGN); print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()

            code = _end(process, tmp_path / "up.log", Console(file=said), within=0.1)
        finally:
            process.kill()
    assert (code, f"Process {process.pid} has not ended" in said.getvalue()) == (1, True)


def test_stop_ends_no_reset_that_waits_at_its_question(folder: Path) -> None:
    a_stack(folder)
    with owned_folder(folder, RESET):
        said = subprocess.run(
            [sys.executable, "-m", "cli.main", "up", "--stop", "--folder", str(folder)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout

    assert said == f"No stack runs on {folder}; `muster reset` (process {os.getpid()}) is running there.\n"

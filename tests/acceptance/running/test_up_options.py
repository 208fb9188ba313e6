"""`muster up` behind, in parts, elsewhere; its logs; and the way back to nothing."""

import json
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from cli.stack.settings import PARTS
from local_stack.folder import owned_folder
from local_stack.ports import free_ports, obstacle
from tests.acceptance.clients import read, register
from tests.acceptance.stack import MUSTER, PORT_OPTIONS, Stack, clean_environment, run_muster

HTTP_SECONDS = 30


@pytest.fixture
def folder(throwaway: Path) -> Path:
    return throwaway / ".local"


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@contextmanager
def serving_query(variables_file: Path) -> Iterator[None]:
    """A process of ours that somebody starts with the stack's settings alone, as an IDE does."""
    variables = dict(line.split("=", 1) for line in variables_file.read_text().splitlines())
    with subprocess.Popen([MUSTER, "serve", "query"], env=clean_environment() | variables, cwd="/") as process:
        try:
            yield
        finally:
            process.terminate()


async def test_a_stack_behind_is_started_shown_used_ended_and_reset(folder: Path) -> None:
    stack = Stack.on(folder)
    environment, here = clean_environment() | {"MUSTER_FOLDER": str(folder)}, folder.parent

    async def muster(*arguments: str) -> tuple[int, str, str]:
        return await run_muster(*arguments, environment=environment, folder=here)

    try:
        code, out, err = await muster("up", "--detach", *stack.options)
        assert (code, "It runs in the background" in out) == (0, True), out + err
        assert "TOKEN=$(" in out

        async with httpx.AsyncClient(timeout=HTTP_SECONDS) as http:
            user = await register(http, stack)
            assert (await read(http, user)).json() == user.document

        code, out, _ = await muster("up", "--status", "--json")
        report = json.loads(out)
        assert code == 0
        assert report["ready_at"]
        assert [(entry["name"], entry["ready"]) for entry in report["processes"]] == [(name, True) for name in PARTS]
        assert "settings" not in report

        timings = json.loads((folder / "timings.json").read_text())
        steps = {step["step"]: step for step in timings["steps"]}
        assert {"Program", "PostgreSQL", "Kafka", "Imports", "Migrations", "Topics", "APIs and console"} <= set(steps)
        assert all(step["began"] + step["seconds"] <= timings["ready_seconds"] + 0.01 for step in steps.values())

        code, out, err = await muster("reset", "--yes")
        assert (code, "A stack is already running" in err) == (1, True)

        code, out, _ = await muster("logs", "relay", "-n", "1")
        assert (code, out.startswith("relay │ {"), out.count("\n")) == (0, True, 1)
    finally:
        pids = [entry["pid"] for entry in json.loads((await muster("up", "--status", "--json"))[1])["processes"]]
        code, out, _ = await muster("up", "--stop")

    assert (code, "has ended" in out) == (0, True)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert (await muster("up", "--stop"))[:2] == (0, f"No stack runs on {folder}.\n")
    assert (await muster("up", "--status"))[:2] == (1, f"No stack runs on {folder}.\n")

    (folder / "mine.txt").write_text("not the stack's")
    assert (await muster("reset"))[0] == 1
    assert (folder / "postgres").exists()
    assert (await muster("reset", "--yes"))[0] == 0
    assert names_in(folder) == ["mine.txt"]


async def test_only_the_parts_that_were_named_run_on_ports_from_the_environment(folder: Path) -> None:
    ports = dict(zip(PORT_OPTIONS, free_ports(len(PORT_OPTIONS)), strict=True))
    variables = {f"MUSTER_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    environment = clean_environment() | variables | {"MUSTER_FOLDER": str(folder)}

    async def muster(*arguments: str) -> tuple[int, str, str]:
        return await run_muster(*arguments, environment=environment, folder=folder.parent)

    code, out, err = await muster("up", "--detach", "--only", "postgres,command-api")
    try:
        assert code == 0, out + err
        report = json.loads((await muster("up", "--status", "--json"))[1])
        assert [(entry["name"], entry["port"]) for entry in report["processes"]] == [
            ("postgres", ports["postgres"]),
            ("command-api", ports["command"]),
        ]
        assert obstacle(ports["kafka"]) is None
        variables_file = folder / "stack.env"
        assert stat.S_IMODE(variables_file.stat().st_mode) == 0o600
        with serving_query(variables_file):
            await Stack(folder, ports).until_ready("query-api")
    finally:
        await muster("up", "--stop")


async def test_a_second_stack_behind_on_one_folder_is_one_sentence(folder: Path) -> None:
    with owned_folder(folder):
        code, out, err = await run_muster("up", "--detach", environment=clean_environment(), folder=folder.parent)

    assert (code, "A stack is already running on" in out, err) == (1, True, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "zookeeper"], "no part zookeeper"),
        (["--only", "relay"], "relay needs kafka and postgres: name"),
        (["--stop", "--status"], "one of --detach, --stop and --status"),
        (["--kafka-port", "0"], "--kafka-port"),
    ],
)
async def test_wrong_use_is_one_sentence_and_exit_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    code, _, err = await run_muster("up", *arguments, environment=clean_environment(), folder=tmp_path)

    assert (code, words in " ".join(err.split())) == (2, True), err
    assert names_in(tmp_path) == []


async def test_logs_and_reset_of_no_stack_say_so(tmp_path: Path) -> None:
    logs = await run_muster("logs", environment=clean_environment(), folder=tmp_path)
    reset = await run_muster("reset", environment=clean_environment(), folder=tmp_path)

    assert (logs[0], "no stack has run there" in logs[2]) == (1, True)
    assert (reset[0], "There is no stack's data" in reset[1]) == (0, True)
    assert names_in(tmp_path) == []

"""`uv tool install 'muster[local]'`: from the wheel alone `muster up` runs anywhere, with its data among the user's."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack.ports import free_port
from tests.acceptance.installing.installation import ROOT
from tests.acceptance.stack import PORT_OPTIONS, READY_SECONDS, STOP_SECONDS, clean_environment
from tests.infrastructure import throwaway_folder
from tests.waiting import until


@pytest.fixture
def home() -> Iterator[Path]:
    """The folder of a user who has no checkout, with one for their data."""
    folder = throwaway_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="the variable that moves a user's data is Linux's")
async def test_the_installed_program_runs_the_whole_stack_anywhere_and_finds_it_again(local: Path, home: Path) -> None:
    elsewhere = home / "anywhere"
    elsewhere.mkdir()
    environment = clean_environment() | {"XDG_DATA_HOME": str(home / "data")}
    ports = [word for name in PORT_OPTIONS for word in (f"--{name}-port", str(free_port()))]
    stack_file = home / "data" / "muster" / "stack" / "stack.json"
    screen = home / "screen.txt"
    with screen.open("w") as out:
        process = await asyncio.create_subprocess_exec(
            local / "muster",
            "up",
            *ports,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=elsewhere,
            env=environment,
            start_new_session=True,
        )
    try:

        async def ready() -> bool:
            assert process.returncode is None, screen.read_text()
            return "Muster is ready" in screen.read_text()

        await until(ready, within=READY_SECONDS, what="the installed `muster up`")
        document = json.loads(stack_file.read_text())
        demo = await asyncio.create_subprocess_exec(
            *(local / "muster", "demo", "--users", "1", "--json"),
            cwd=home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        out_of_demo, _ = await asyncio.wait_for(demo.communicate(), READY_SECONDS)
    finally:
        process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), STOP_SECONDS)

    assert code == 0
    assert demo.returncode == 0
    assert [user["event"] for user in json.loads(out_of_demo)["users"]] == ["registered"]
    commands = {entry["name"]: entry["command"] for entry in document["processes"]}
    assert str(local / "muster") in " ".join(commands["command-api"])
    assert str(ROOT) not in json.dumps(commands), "nothing of the checkout is used"
    assert list(elsewhere.iterdir()) == [], "nothing is left where it was started"

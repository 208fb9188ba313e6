"""The help page is written without importing the commands; what it says of them must be theirs."""

import os
import subprocess
import sys

import pytest

from cli.main import COMMANDS, load_command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded_and_explains_itself(name: str) -> None:
    command = load_command(name, COMMANDS[name])

    assert command.name == name
    assert command.help


def test_the_help_page_imports_no_command() -> None:
    program = (
        "import sys\nfrom cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'fastapi', 'aiokafka', 'alembic', 'faststream'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def test_a_command_that_crashes_shows_where_and_not_whose_data() -> None:
    program = (
        "import os, sys, threading, types\n"
        "from cli import main\n"
        "def fail() -> None:\n"
        '    raise ValueError(f\'no {os.environ["OF"]}, and {os.environ["OF"]!r}\')\n'
        "def crash() -> None:\n"
        "    thread = threading.Thread(target=fail)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    fail()\n"
        "sys.modules['crashing'] = types.SimpleNamespace(crash=crash)\n"
        "main.COMMANDS['crash'] = main.Lazy('crashing:crash', '')\n"
        "sys.argv = ['muster', 'crash']\n"
        "main.main()\n"
    )
    told = {**os.environ, "OF": "hunter2@example.com"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=told)

    assert done.returncode == 1
    assert "hunter2" not in done.stderr + done.stdout
    assert done.stderr.count("ValueError: no …, and …") == 2
    assert "in fail" in done.stderr

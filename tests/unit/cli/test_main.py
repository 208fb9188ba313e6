"""The help page is written without importing the commands; what it says of them must be theirs."""

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

"""What the console does not import: it is to cost little memory."""

import subprocess
import sys


def test_the_console_imports_nothing_that_it_does_not_need() -> None:
    program = (
        "import sys, console.app\n"
        "large = {'alembic', 'fastapi', 'faststream', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not large, large\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr

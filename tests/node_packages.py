"""What of npm's ours is tried with, where `make test-node` puts it, and the Node that runs it."""

import os
import sys
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(sys.prefix) / "browser"
#: A wheel's Node, where there is one, else the machine's.
PATH: Final = f"{FOLDER / 'bin'}{os.pathsep}{os.environ['PATH']}"


def require(package: str) -> None:
    """Return where a package is there; else the test is skipped, as the run's last lines say. CI must have it."""
    if (FOLDER / "node_modules" / package / "package.json").exists():
        return
    reason = f"NOTHING WAS TRIED WITH {package}, which is not there; `make test-node` says why"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

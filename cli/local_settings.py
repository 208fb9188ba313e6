"""Finding the local stack: where neither environment nor `.env` names a server, a running `muster up` is meant.

All or nothing: settings of one installation are never mixed with those of another.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import platformdirs
from dotenv import dotenv_values

#: Where `muster up` keeps the stack of a checkout, unless MUSTER_FOLDER (or its --folder) says another place.
DEFAULT_FOLDER: Final = Path(".local")
FOLDER_VARIABLE: Final = "MUSTER_FOLDER"

#: Whoever sets one of these means that server.
_SERVERS: Final = (
    "POSTGRES_SERVER",
    "COMMAND_POSTGRES_SERVER",
    "QUERY_POSTGRES_SERVER",
    "KAFKA_BOOTSTRAP_SERVERS",
    "PUBLIC_COMMAND_URL",
)


def default_folder() -> Path:
    """`.local` here, in a checkout; where Muster is installed as a program, a folder among this user's data."""
    if Path(__file__).parents[1].joinpath("pyproject.toml").is_file():
        return DEFAULT_FOLDER
    return platformdirs.user_data_path("muster", appauthor=False) / "stack"


def stack_folder(folder: Path | None = None) -> Path:
    """The folder of the local stack: the one that is given, else that of the environment, else the default."""
    return Path(folder or os.environ.get(FOLDER_VARIABLE) or default_folder()).absolute()


def use_local_stack() -> bool:
    """Take over the settings of the stack that runs here, where no server is named; says whether they were.

    Without the `local` extra installed there is no local stack.
    """
    written = dotenv_values(".env")
    if any(os.environ.get(name) or written.get(name) for name in _SERVERS):
        return False
    try:
        from local_stack import stack_file  # noqa: PLC0415 - only where the extra is installed
    except ImportError:
        return False
    stack = stack_file.read(stack_folder())
    if stack is None:
        return False
    os.environ.update(stack.environment)
    return True

"""Finds the local stack: where neither environment nor `.env` names a server, commands use a running `muster up`.

It is all or nothing: settings of one installation are never mixed with those of another.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import platformdirs
import typer
from dotenv import dotenv_values

if TYPE_CHECKING:
    from local_stack.stack_file import Stack

#: Where `muster up` keeps the stack of a checkout, unless MUSTER_FOLDER or --folder names another place.
DEFAULT_FOLDER: Final = Path(".local")
#: In the stack's folder: its own issuer of tokens.
ISSUER_FOLDER: Final = "issuer"
#: Names the folder of the local stack, for every command.
FOLDER_VARIABLE: Final = "MUSTER_FOLDER"

FolderOption = Annotated[Path | None, typer.Option(help="The stack's folder (.local).", envvar=FOLDER_VARIABLE)]

#: If one of these is set, commands use that server and no local stack.
_SERVERS: Final = (
    "POSTGRES_SERVER",
    "COMMAND_POSTGRES_SERVER",
    "QUERY_POSTGRES_SERVER",
    "KAFKA_BOOTSTRAP_SERVERS",
    "PUBLIC_COMMAND_URL",
)


def default_folder() -> Path:
    """Return `.local` in a checkout; for an installed Muster a folder among this user's data."""
    if Path(__file__).parents[2].joinpath("pyproject.toml").is_file():
        return DEFAULT_FOLDER
    return platformdirs.user_data_path("muster", appauthor=False) / "stack"


def stack_folder(folder: Path | None = None) -> Path:
    """Return the folder of the local stack: the one given, else that of the environment, else the default."""
    return Path(folder or os.environ.get(FOLDER_VARIABLE) or default_folder()).absolute()


def issuer_folder(folder: Path) -> Path:
    """Return where the stack on a folder keeps its own issuer of tokens."""
    return folder / ISSUER_FOLDER


def running_stack(folder: Path) -> Stack | None:
    """Return the stack that runs on the folder; None where there is none."""
    try:
        from local_stack import stack_file  # noqa: PLC0415 - only the extra `local` brings its packages
    except ImportError:
        return None
    return stack_file.read(folder)


def use_local_stack() -> bool:
    """Use the settings of the stack that runs here, unless a server is named; tell whether it does."""
    dotenv = dotenv_values(".env")
    if any(given.get(name) or given.get(f"{name}_FILE") for name in _SERVERS for given in (os.environ, dotenv)):
        return False
    stack = running_stack(stack_folder())
    if stack is None:
        return False
    for name in stack.settings:
        os.environ.pop(f"{name}_FILE", None)  # the same setting of another installation
    os.environ.update(stack.settings)
    return True

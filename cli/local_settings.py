"""Finding the local stack: what the environment does not say, `.local/stack.json` of a running `muster up` does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

#: The folder option that commands share with `muster up`.
FOLDER_VARIABLE: Final = "MUSTER_FOLDER"
Folder = Annotated[
    Path,
    typer.Option(
        "--folder", help="Folder of the local stack to use where the environment is silent.", envvar=FOLDER_VARIABLE
    ),
]
DEFAULT_FOLDER: Final = Path(".local")


def use_local_stack(folder: Path = DEFAULT_FOLDER) -> bool:
    """Fill in, from a stack that runs on the folder, the variables that the environment lacks; says whether one runs.

    Without the `local` extra installed there is no local stack.
    """
    try:
        from local_stack import stack_file  # noqa: PLC0415 - only where the extra is installed
    except ImportError:
        return False
    stack = stack_file.read(folder.absolute())
    if stack is None:
        return False
    for name, value in stack.environment.items():
        os.environ.setdefault(name, value)
    return True

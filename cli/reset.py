"""`muster reset`: delete the local stack's data, after asking; the next start is a first one.

Only what a stack makes is deleted, never the folder's other contents, and never while a stack runs on it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.local_settings import FOLDER_VARIABLE, stack_folder
from cli.output import fail, say
from cli.up_run import TIMINGS_FILE
from cli.up_settings import SECRETS_FILE
from local_stack import stack_file
from local_stack.errors import LocalStackError
from local_stack.folder import LOCK_FILE, end_orphans, owned_folder

#: All that `muster up` makes in its folder.
MADE: Final = (
    *("postgres", "kafka", "logs"),
    *(SECRETS_FILE, TIMINGS_FILE, stack_file.FILE_NAME, stack_file.ENVIRONMENT_FILE, LOCK_FILE),
)


def reset(
    folder: Annotated[Path | None, typer.Option(help="The stack's folder (.local).", envvar=FOLDER_VARIABLE)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete users, events, secrets and logs of the local stack, after asking; downloads are kept."""
    where = stack_folder(folder)
    if not any((where / name).exists() for name in MADE):
        say(f"There is no stack's data in {where}.")
        return
    try:
        with owned_folder(where):
            _ask(where, yes=yes)
            end_orphans(where)
            _delete(where)
    except LocalStackError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or where}: {error.strerror or error}.")
    say(f"The stack's data in {where} is deleted; the next start makes a new one.")


def _ask(folder: Path, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail("Nothing was deleted: say --yes where nobody can be asked.")
    if not typer.confirm(f"Delete all users, events, secrets and logs of the stack in {folder}?"):
        fail("Nothing was deleted.")


def _delete(folder: Path) -> None:
    data = folder / "postgres" / "data"
    if data.is_symlink():  # out of PostgreSQL's reach its data is elsewhere (local_stack/unprivileged.py)
        shutil.rmtree(data.resolve(), ignore_errors=True)
    for name in MADE:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()

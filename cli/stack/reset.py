"""`muster reset`: delete the local stack's data, after asking; the next start is a first one.

Only what a stack has made is deleted, and only in a folder that is a stack's (up_folder.py): never the folder's other
contents, never through a link of somebody else's, and never while a stack runs on it. All of it is looked at before the
first deletion, so a refusal leaves everything as it was.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.local_settings import FOLDER_VARIABLE, stack_folder
from cli.output import fail, say
from cli.stack.folder import is_empty_of_stacks, made_by_stack, mark, require_own
from local_stack.errors import LocalStackError
from local_stack.folder import RESET, end_orphans, owned_folder
from local_stack.postgres.data import remove_cluster, remove_half_made, require_removable
from local_stack.postgres.server import end_orphan

WAY_OUT: Final = "If it is to go, delete it by hand."


def reset(
    folder: Annotated[Path | None, typer.Option(help="The stack's folder (.local).", envvar=FOLDER_VARIABLE)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete users, events, secrets and logs of the local stack, after asking; downloads are kept."""
    where = stack_folder(folder)
    if is_empty_of_stacks(where):
        say(f"There is no stack's data in {where}.")
        return
    try:
        require_own(where, WAY_OUT)  # before the lock file is made in a folder that is not ours
        with owned_folder(where, RESET) as ownership:
            require_own(where, WAY_OUT)
            _look(where)
            _ask(where, yes=yes)
            end_orphans(where)
            ownership.unswept = False
            _delete(where)
    except LocalStackError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or where}: {error.strerror or error}.")
    say(f"The stack's data in {where} is deleted; the next start makes a new one.")


def _look(folder: Path) -> None:
    """See that all that would be deleted can be, without deleting anything."""
    made_by_stack(folder)
    require_removable(folder / "postgres" / "data")


def _ask(folder: Path, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail("Nothing was deleted: say --yes where nobody can be asked.")
    if not typer.confirm(f"Delete all users, events, secrets and logs of the stack in {folder}?"):
        fail("Nothing was deleted.")


def _delete(folder: Path) -> None:
    """Delete what the stack has made; whatever else is in its folders stays, and they with it."""
    mark(folder)  # interrupted from here on, it can be run again
    _look(folder)  # once more: the question may have stood for long
    data = folder / "postgres" / "data"
    for path in made_by_stack(folder):
        if path == data:
            end_orphan(data.resolve())
            remove_cluster(data)
        elif path.parent == folder and path.is_dir():
            with suppress(OSError):  # something of somebody else's is in it
                path.rmdir()
        elif path.parent == data.parent and path.is_dir():
            remove_half_made(path.parent)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # as above, or the next stack has made its lock file already
        folder.rmdir()

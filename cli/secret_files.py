"""`muster secrets FOLDER`: every secret of an installation as a file, each in the folders of the parts that need it.

For containers: docker-compose.yml runs it once, and gives each service its own folder alone, from which the service
reads by NAME_FILE. A value that the environment gives goes before; one that is there stays.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.kafka_files import PASSWORD, broker_files, logins
from cli.terminal.output import fail, say
from local_stack.issuer import kept_issuer
from local_stack.issuer_files import KEY_SET, NoIssuerError
from local_stack.private_file import write_private
from local_stack.secret_values import make_secret

#: Each secret's file, and the parts that are given it.
HOLDERS: Final[dict[str, tuple[str, ...]]] = {
    "POSTGRES_PASSWORD": ("postgres", "migrate"),
    "OWNER_POSTGRES_PASSWORD": ("migrate",),
    "COMMAND_POSTGRES_PASSWORD": ("migrate", "command-api"),
    "RELAY_POSTGRES_PASSWORD": ("migrate", "relay"),
    "PROJECTORS_POSTGRES_PASSWORD": ("migrate", "projectors"),
    "QUERY_POSTGRES_PASSWORD": ("migrate", "query-api"),
    "EVENTS_POSTGRES_PASSWORD": ("migrate", "event-api"),
    "OPERATOR_POSTGRES_PASSWORD": ("migrate", "operator", "console"),
    "IDEMPOTENCY_SECRET": ("command-api",),
    "CREDENTIALS_SECRETS": ("command-api",),
    "CURSOR_KEYS": ("query-api",),
    "EVENT_API_SECRETS": ("event-api",),
    "RECEIPTS_KEY": ("event-api",),
    "CONSOLE_SECRET": ("console",),
}
#: Who is given the public keys of the issuer, whose own folder has the private one.
TRUSTING: Final = ("command-api", "query-api", "event-api", "console")
ISSUER: Final = "issuer"
KAFKA: Final = "kafka"
#: Servers run as users of their own, of our group.
_SERVERS: Final = frozenset({"postgres", KAFKA})
_READABLE_BY_GROUP: Final = 0o640


def secrets(folder: Annotated[Path, typer.Argument(help="Where the parts' folders are.", file_okay=False)]) -> None:
    """Make all secrets, keys and passwords that are missing, a file each; harmless to repeat."""
    try:
        made = make_secrets(folder)
    except NoIssuerError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or folder} cannot be written ({error.strerror}): let this user write it.")
    say(f"{folder}: " + (f"{', '.join(made)} written" if made else "all there"))


def make_secrets(folder: Path) -> list[str]:
    """Write what is missing or was given anew, and return the names of what was written.

    Raises:
        OSError: the folder cannot be read or written.
        NoIssuerError: the issuer that is there is damaged.
    """
    made = [name for name, parts in HOLDERS.items() if _keep([folder / part / name for part in parts])]
    made += [name for name, text in broker_files(folder / KAFKA).items() if _write(folder / KAFKA / name, text)]
    for part, password in logins(folder / KAFKA).items():
        _write(folder / part / PASSWORD, password)
    key_set = (kept_issuer(folder / ISSUER).folder / KEY_SET).read_text(encoding="utf-8")
    handed = [_write(folder / part / KEY_SET, key_set) for part in TRUSTING]
    return [*made, KEY_SET] if any(handed) else made


def _keep(files: list[Path]) -> bool:
    """Give all files one value; tell whether any of them was written."""
    name = files[0].name
    there = next((file.read_text(encoding="utf-8") for file in files if file.exists()), None)
    value = os.environ.get(name) or there or make_secret(name)
    return bool([file for file in files if _write(file, value)])


def _write(file: Path, text: str) -> bool:
    is_new = not file.exists() or file.read_text(encoding="utf-8") != text
    if is_new:
        write_private(file, text)
    # Also what an earlier run wrote that was killed before it came to this.
    if file.parent.name in _SERVERS and not file.stat().st_mode & stat.S_IRGRP:
        file.chmod(_READABLE_BY_GROUP)
    return is_new

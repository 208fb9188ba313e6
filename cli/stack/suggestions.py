"""What `muster up` prints at its end: lines to be pasted into another terminal, and the way into the console."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.stack.discovery import FOLDER_VARIABLE, default_folder, issuer_folder
from cli.stack.local_stack import CONSOLE_LINK_LOG, muster
from cli.stack.settings import ALL_PARTS, is_open, trusts_own_issuer
from local_stack import stack_file
from local_stack.issuer_files import KEY_SET, LOCAL_AUDIENCE
from local_stack.ports import LOCALHOST

_PERSON: Final = '{"email": "ada@example.com", "username": "ada", "password": "correct horse"}'


def suggestions(folder: Path, settings: Mapping[str, str], only: frozenset[str]) -> list[tuple[str, str]]:
    """Return commands worth trying with the stack on a folder, each after what it does."""
    if only != ALL_PARTS:
        variables = shlex.quote(str(folder / stack_file.ENVIRONMENT_FILE))
        return [("run a process of your own against it", f"(set -a; . {variables}; {_muster('serve', 'command')})")]
    # Another terminal may be in another folder, and a checkout's `.local` is another one there.
    here = "" if folder == default_folder() else f"{FOLDER_VARIABLE}={shlex.quote(str(folder))} "
    demo = "make demo" if Path("Makefile").exists() else _muster("demo")
    command, query = (f"http://{LOCALHOST}:{settings[f'{api}_API_PORT']}" for api in ("COMMAND", "QUERY"))
    token, bearer, sends = _token(folder, settings, here)
    return [
        *token,
        ("register a user", f"curl -i {command}/users {bearer}-H 'Content-Type: application/json' -d '{_PERSON}'"),
        ("read the users", f"curl -s {query}/users {bearer}".rstrip()),
        ("watch users travel through Kafka", f"{here}{sends}{demo}"),
    ]


def _token(folder: Path, settings: Mapping[str, str], here: str) -> tuple[list[tuple[str, str]], str, str]:
    """The line that gets a token, the option by which curl sends it, and the variable by which our commands do."""
    if is_open(settings):
        return [], "", ""
    bearer = '-H "Authorization: Bearer $TOKEN" '
    if settings.get("AUTH_JWKS_FILE") != str(issuer_folder(folder) / KEY_SET):
        what = f"put a token of {settings['AUTH_ISSUER']} for {settings.get('AUTH_AUDIENCE')} in place of the dots"
        return [(what, "TOKEN=...")], bearer, 'MUSTER_TOKEN="$TOKEN" '
    audience = settings["AUTH_AUDIENCE"]
    words = ("token",) if audience == LOCAL_AUDIENCE else ("token", "--audience", audience)
    return [("get a token that opens everything", f"TOKEN=$({here}{_muster(*words)})")], bearer, ""


def _muster(*words: str) -> str:
    return shlex.join([*muster().command, *words])


def way_in(folder: Path, settings: Mapping[str, str]) -> tuple[str, str]:
    """The console's address, as the link of this start where there is one, and what to know of it."""
    address = settings["PUBLIC_CONSOLE_URL"]
    if is_open(settings):
        return address, "Access is off: it asks for no sign-in."
    if not trusts_own_issuer(folder, settings):
        return address, f"It trusts {settings['AUTH_ISSUER']}."
    printed = _printed(folder / "logs" / f"{CONSOLE_LINK_LOG}.log")
    if not printed.startswith(address):
        return address, "No link could be made; `muster console link` says why."
    return printed, "It signs in once, within 10 minutes; `muster console link` makes another."


def _printed(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8").strip().rpartition("\n")[2]
    except OSError:
        return ""

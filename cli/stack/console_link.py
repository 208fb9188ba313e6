"""The way into the local stack's console: a one-time link, where the stack trusts its own issuer.

`muster console link` makes it, as the other commands do their part of a start; what it prints is in a log of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.stack.discovery import issuer_folder
from cli.stack.settings import is_open
from local_stack.issuer_files import KEY_SET

#: The command that makes a link, and the name of its log.
COMMAND: Final = ("console", "link")
LOG: Final = "link"


def can_be_made(folder: Path, settings: Mapping[str, str]) -> bool:
    """Whether the stack's APIs take tokens of its own issuer."""
    return not is_open(settings) and settings.get("AUTH_JWKS_FILE") == str(issuer_folder(folder) / KEY_SET)


def way_in(folder: Path, settings: Mapping[str, str]) -> tuple[str, str]:
    """The console's address, as the link of this start where there is one, and what to know of it."""
    address = settings["PUBLIC_CONSOLE_URL"]
    if is_open(settings):
        return address, "Access is off: it asks for no sign-in."
    if not can_be_made(folder, settings):
        return address, f"It trusts {settings['AUTH_ISSUER']}."
    printed = _printed(folder / "logs" / f"{LOG}.log")
    if not printed.startswith(address):
        return address, "No link could be made; `muster console link` says why."
    return printed, "It signs in once, within 10 minutes; `muster console link` makes another."


def _printed(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8").strip().rpartition("\n")[2]
    except OSError:
        return ""

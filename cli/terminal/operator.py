"""The person who runs this command: events that it leads to say so."""

from __future__ import annotations

import os
import pwd

from chassis.access.caller import cli_actor


def operator() -> str:
    """The system's user as an actor: `cli:ann`, or by number where the system has no name for it."""
    number = os.getuid()
    try:
        return cli_actor(pwd.getpwuid(number).pw_name)
    except KeyError:
        return cli_actor(str(number))

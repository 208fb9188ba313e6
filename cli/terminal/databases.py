"""The databases that a command is about, as its argument says."""

from enum import StrEnum


class DatabaseChoice(StrEnum):
    """One of the two databases, or both."""

    command = "command"
    query = "query"
    all = "all"

"""The servers of one database, as a setting names them: HOST or HOST:PORT, separated by commas."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator

#: The kind of server wanted, by libpq's names. read-write: the primary. any: whoever answers first. prefer-standby: a
#: standby, and the primary where none answers.
SessionAttributes = Literal["any", "read-write", "standby", "prefer-standby"]

#: More servers than these have one database's copies nowhere, and each may cost a connection its time.
MOST_HOSTS: Final = 8
#: A name or an address; of IPv6 in brackets where a port follows.
_HOST: Final = re.compile(r"(\[(?P<six>[^\s,\[\]]+)\]|(?P<name>[^\s,:\[\]]+))(:(?P<port>\d{1,5}))?")
_MOST_PORT: Final = 65535


class Host(NamedTuple):
    """One server."""

    name: str
    port: int


def read_hosts(text: str, port: int) -> list[Host]:
    """The servers of a setting, in its order; `port` is of those that name none.

    Raises:
        ValueError: the message says which is none, and how one is written.
    """
    return [_read_host(each.strip(), port) for each in text.split(",")]


def _read_host(text: str, port: int) -> Host:
    if _is_address(text):
        return Host(text, port)
    found = _HOST.fullmatch(text)
    given = int(found["port"] or port) if found else 0
    if found is None or not 1 <= given <= _MOST_PORT:
        raise ValueError(f"{text!r} is no server: name each as HOST or HOST:PORT, such as db-a,db-b:5433")
    return Host(found["six"] or found["name"], given)


def _is_address(text: str) -> bool:
    """Whether it is an IP address alone; one of version 6 has colons of its own."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _names_hosts(text: str) -> str:
    if len(read_hosts(text, 1)) > MOST_HOSTS:
        raise ValueError(f"names more than {MOST_HOSTS} servers: name those that have this database")
    return text


#: A setting's value.
Hosts = Annotated[str, AfterValidator(_names_hosts)]

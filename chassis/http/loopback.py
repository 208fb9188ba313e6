"""The names and addresses that are this machine's own."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address


# Reading an address takes 4 µs, and requests ask twice. Who sends other names fills it with those, and no more.
@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

"""Numbers, times and types as a person reads them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

_EVENTS: Final = {
    "registered": "Registered",
    "email_changed": "Address changed",
    "email_verified": "Address verified",
    "username_changed": "Username changed",
    "password_changed": "Password changed",
    "profile_changed": "Profile changed",
    "deactivated": "Deactivated",
    "reactivated": "Reactivated",
    "erased": "Erased",
    "snapshot": "Published once more",
}
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
#: Each unit is used up to so many seconds.
_UNITS: Final = ((2 * _MINUTE, 1, "s"), (2 * _HOUR, _MINUTE, "min"), (2 * _DAY, _HOUR, "h"))
#: Below, one more digit says something.
_FEW_SECONDS: Final = 10


def count(number: float | None) -> str:
    """`1,234`, or `0.5` where there is less than ten; a dash where it is not known."""
    if number is None:
        return "–"
    return f"{number:,.1f}" if number < _FEW_SECONDS and number != int(number) else f"{number:,.0f}"


def seconds(value: float | None) -> str:
    """A time of any length, in the unit that fits it: `4 ms`, `2.5 s`, `3 min`."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < _FEW_SECONDS:
        return f"{value:.1f} s"
    for most, unit, name in _UNITS:
        if value < most:
            return f"{value / unit:.0f} {name}"
    return f"{value / _DAY:.0f} days"


def moment(value: datetime | str | None) -> str:
    """`2026-11-30 09:15:02 UTC`; a dash where there is none."""
    if value is None:
        return "–"
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def event(name: str) -> str:
    """The event's name in words; a type that is newer than this code by its own name."""
    return _EVENTS.get(name, name)

"""The bytes of a parked record, for people: as text, and in hexadecimal."""

from __future__ import annotations

from typing import Final, NamedTuple

#: A screen shows no more of one value; the command line has all of it.
SHOWN_BYTES: Final = 4096
_ROW_BYTES: Final = 16


class Contents(NamedTuple):
    """A key or a value, as far as it is shown."""

    name: str
    size: int
    text: str
    hexadecimal: str

    @property
    def is_cut(self) -> bool:
        """True where there is more than is shown."""
        return self.size > SHOWN_BYTES


def contents(name: str, raw: bytes | None) -> Contents | None:
    """The part of it that is shown; None where there is none."""
    if raw is None:
        return None
    begun = raw[:SHOWN_BYTES]
    return Contents(name, len(raw), as_text(begun), _dump(begun))


def as_text(raw: bytes) -> str:
    """UTF-8; what is none, and what a screen would not show as itself, is escaped."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in raw.decode("utf-8", "backslashreplace")
    )


def _dump(raw: bytes) -> str:
    rows = (raw[start : start + _ROW_BYTES] for start in range(0, len(raw), _ROW_BYTES))
    return "\n".join(f"{number * _ROW_BYTES:04x}  {row.hex(' ')}" for number, row in enumerate(rows))

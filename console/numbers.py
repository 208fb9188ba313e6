"""Numbers as addresses and forms give them."""

from __future__ import annotations


def whole_number(text: str, *, most_digits: int) -> int | None:
    """The number that the text is; None where it is none of ASCII digits alone, or of more than these."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= most_digits else None

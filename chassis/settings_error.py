"""The error of wrong settings. It has a module of its own so that who only catches it does not import pydantic."""

from __future__ import annotations


class SettingsError(Exception):
    """Some variables are missing or wrong; `lines` has one sentence per variable, without any secret's value."""

    def __init__(self, lines: list[str]) -> None:
        """Keep the lines; the message joins them."""
        self.lines = lines
        super().__init__("\n".join(lines))

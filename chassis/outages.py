"""An outage is one line in the log when it begins and one when it ends, not one a try."""

from __future__ import annotations

import ssl
from typing import Any

from chassis.last_words import without_values


class Outage:
    """Logs the failures of something that is tried again and again: only when the reason changes, or is gone."""

    def __init__(self, log: Any, failed: str, recovered: str | None = None) -> None:
        """`failed` and `recovered` name the lines; without `recovered` the end is silent."""
        self._log = log
        self._failed = failed
        self._recovered = recovered
        #: Why the last try failed; empty while nothing is wrong.
        self.reason = ""

    def failed(self, reason: str) -> None:
        """A try has failed: warn, unless the one before failed for the same reason."""
        if reason != self.reason:
            self._log.warning(self._failed, reason=reason)
        self.reason = reason

    def over(self) -> bool:
        """A try has succeeded; say whether the one before had failed."""
        was_failing, self.reason = bool(self.reason), ""
        if was_failing and self._recovered:
            self._log.info(self._recovered)
        return was_failing


def describe(error: BaseException) -> str:
    """An error in one line: its class where it has no text (a TimeoutError says nothing)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message}"
    # PostgreSQL's detail quotes the row.
    message, _, _ = str(error).partition("\nDETAIL:")
    return " ".join(message.split()) or type(error).__name__


def describe_unexpected(error: BaseException) -> str:
    """A mistake of ours or a library's in one line, without the values in its message: they may be people's data."""
    return f"{type(error).__name__}: {without_values(str(error))}".removesuffix(": ")

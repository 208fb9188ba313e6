"""What a process says of an error that nobody caught: its kinds and places, without the values in its messages.

Python prints messages whole, in the main thread, in others, and where an error can be raised to nobody (a destructor, a
callback). A message may quote people's data: a database the row that it refuses, a parser the text.
"""

from __future__ import annotations

import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

#: What a message quotes, from the first quote to the last: a value may have quotes in it.
_QUOTED: Final = re.compile(r"""["'].*["']""")
#: What may be somebody's address, or end with a host's name behind a password, quoted or not.
_ADDRESS: Final = re.compile(r"""[^\s<>()\[\],;"']+@[^\s<>()\[\],;"']+""")

#: Tells of an error; the first argument is one of the events below.
Tell = Callable[[str, BaseException], None]
CRASHED: Final = "process.crashed"
THREAD_CRASHED: Final = "thread.crashed"
UNRAISABLE: Final = "error.unraisable"


def without_values(message: str) -> str:
    """The first line of an error's message, without what it quotes and what looks like an address."""
    first, _, _ = message.partition("\n")
    return _ADDRESS.sub("…", _QUOTED.sub("…", first))


def on_crash(tell: Tell) -> None:
    """Have all errors that nobody catches told by this alone, until somebody else is named."""

    def crashed(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        tell(CRASHED, error)

    def thread_crashed(found: threading.ExceptHookArgs) -> None:
        # A thread that asks to end has not crashed.
        if not issubclass(found.exc_type, SystemExit):
            tell(THREAD_CRASHED, found.exc_value or found.exc_type())

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        tell(UNRAISABLE, found.exc_value or found.exc_type())

    sys.excepthook, threading.excepthook, sys.unraisablehook = crashed, thread_crashed, unraisable


def last_words(error: BaseException) -> str:
    """A traceback as Python prints it, of which each message is without values."""
    return "\n".join(_lines(error, set()))


def _lines(error: BaseException, told: set[int]) -> Iterator[str]:
    told.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in told:
        yield from _lines(before, told)
        yield ""
    yield "Traceback (most recent call last):"
    for line in traceback.format_tb(error.__traceback__):
        yield line.rstrip("\n")
    yield f"{type(error).__qualname__}: {without_values(str(error))}"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from (f"  {line}" for line in _lines(each, told))

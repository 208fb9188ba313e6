"""A body in chunks (RFC 9112, section 7.1): how far it goes in what came, whatever the chunks hold."""

from __future__ import annotations

import re
from typing import Final

from chassis.http.transport.limits import HEAD_BYTES

_SIZE: Final = re.compile(rb"[0-9A-Fa-f]*")
#: A chunk as nearly all begin, with its size and nothing else, in a line that has come whole.
_BEGINS: Final = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,15})\r\n")
_EMPTY_LINE: Final = b"\r\n"


class Chunks:
    """The framing of one body, followed from chunk to chunk so that content is stepped over and not looked at.

    Whether the framing is right is for the parser to say. Where it takes a body, both find the same end.
    """

    def __init__(self) -> None:
        #: Bytes of a chunk that have not come, the end of the line behind it included.
        self._left = 0
        #: What came of a line that has not ended.
        self._line = b""
        self._is_after_last = False
        self._is_over = False
        #: Bytes since the last content: fields after the last chunk are a head that never ends.
        self.framing = 0

    @property
    def is_too_long(self) -> bool:
        """Whether there is more between two chunks, or after the last, than a head may have."""
        return self.framing > HEAD_BYTES

    def end_in(self, data: bytes, at: int) -> int:
        """Where the body ends in `data`, which goes on with it at `at`; the data's end where it goes on behind that.

        Nothing is to be expected of the rest where the framing has become too long.
        """
        while at < len(data) and not (self._is_over or self.is_too_long):
            if not (self._line or self._is_after_last):
                at = self._step_over(data, at)
            at += self._read_line(data, at)
        return at

    def _step_over(self, data: bytes, at: int) -> int:
        """Pass the content that is due and all chunks that begin as nearly all do: a read may hold 50,000 of them."""
        left, end = self._left, len(data)
        while at + left <= end:
            at += left
            left = 0
            if not (begins := _BEGINS.match(data, at)):
                break
            left = int(begins[1], 16) + len(_EMPTY_LINE)
            at = begins.end()
        passed = min(left, end - at)
        self._left = left - passed
        return at + passed

    def _read_line(self, data: bytes, at: int) -> int:
        """Read up to the end of a line, as far as it has come; give how many bytes that is."""
        end = data.find(b"\n", at) + 1 or len(data)
        line = self._line + data[at:end]
        self.framing += end - at
        if not line.endswith(b"\n"):
            self._line = line
            return end - at
        self._line = b""
        if self._is_after_last:
            self._is_over = line == _EMPTY_LINE
        else:
            self._begin_chunk(int(_SIZE.match(line)[0] or b"0", 16))  # type: ignore[index] # matches anything
        return end - at

    def _begin_chunk(self, size: int) -> None:
        if size:
            self._left = size + len(_EMPTY_LINE)
            self.framing = 0
        else:
            self._is_after_last = True

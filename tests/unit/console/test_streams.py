"""Server-sent events as the standard has them."""

import pytest

from console.streams import event

#: What Python takes for a line's end and the standard does not; a name may have any of them.
OTHERS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


def test_nothing_but_the_line_ends_of_the_standard_makes_a_new_line() -> None:
    assert event("rows", OTHERS) == f"event: rows\ndata: {OTHERS}\n\n".encode()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_no_text_can_begin_an_event_of_its_own(end: str) -> None:
    text = f"a{end}event: b{end}{end}data: c"

    assert event("rows", text) == b"event: rows\ndata: a\ndata: event: b\ndata: \ndata: data: c\n\n"

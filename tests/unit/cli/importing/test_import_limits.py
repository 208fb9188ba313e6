"""The import's limits beside those of the API that it sends to."""

from io import BytesIO

from cli.importing.chunks import CHUNK_LINES, KEPT_BYTES, LONGEST_LINE_BYTES, REQUEST_BYTES, read_chunks
from command_api.imports.lines import IMPORT_BYTES, LINE_BYTES, LINES


def test_the_api_takes_every_chunk_and_refuses_every_line_that_is_not_sent() -> None:
    assert LONGEST_LINE_BYTES == LINE_BYTES
    assert CHUNK_LINES <= LINES
    assert REQUEST_BYTES + LONGEST_LINE_BYTES <= IMPORT_BYTES


def test_a_line_as_long_as_what_is_kept_of_one_swallows_no_other() -> None:
    whole, longer = b"x" * (KEPT_BYTES - 1), b"y" * (KEPT_BYTES + 1)
    source = BytesIO(b"\n".join((whole, b"a", longer, b"b")) + b"\n")

    chunks = [*read_chunks(source, 1)]
    lines = [line for chunk in chunks for line in chunk.lines]

    assert lines == [whole, b"a", longer[:KEPT_BYTES], b"b"]
    assert {number for chunk in chunks for number in chunk.too_long} == {1, 3}

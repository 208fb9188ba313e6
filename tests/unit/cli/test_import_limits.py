"""The import's limits beside those of the API that it sends to."""

from cli.importing.chunks import CHUNK_LINES, LONGEST_LINE_BYTES, REQUEST_BYTES
from command_api.imports.lines import IMPORT_BYTES, LINE_BYTES, LINES


def test_the_api_takes_every_chunk_and_refuses_every_line_that_is_not_sent() -> None:
    assert LONGEST_LINE_BYTES == LINE_BYTES
    assert CHUNK_LINES <= LINES
    assert REQUEST_BYTES + LONGEST_LINE_BYTES <= IMPORT_BYTES

"""Two public sets of what clients may send: documents that are nearly JSON, and strings that have broken programs."""

import json
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent


def documents() -> dict[str, bytes]:
    """Those of the JSON Parsing Test Suite by name: `y_` is JSON, `n_` is none, `i_` is for each reader to judge."""
    found = json.loads((_FOLDER / "json_parsing.json").read_text(encoding="utf-8"))
    # Shorter than in the suite, where no body may be so long.
    deep = {"n_structure_opening_arrays": "[" * 60_000, "n_structure_open_array_object": '[{"":' * 12_000}
    return {name: text.encode() for name, text in (found | deep).items()}


def naughty_strings() -> list[str]:
    """The Big List of Naughty Strings."""
    strings: list[str] = json.loads((_FOLDER / "naughty_strings.json").read_text(encoding="utf-8"))
    return strings

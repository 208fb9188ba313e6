"""The console's scripts for browsers, out of WebJars: `python -m local_stack.webjars` puts them into a checkout.

It fetches them as Kafka's jars, pinned by SHA-256. The repository does not have them; a wheel's build does the same
(hatch_build.py).
"""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path
from typing import Final

from local_stack.cache import cache_folder
from local_stack.kafka.jars import fetch_jars, pinned_jars

PINS: Final = Path(__file__).with_name("webjars.txt")
#: Where the console looks for them, in a checkout and in a wheel alike.
FOLDER: Final = Path("console") / "vendor"
#: The file of each that we want, and its licence.
_INSIDE: Final = {
    "htmx.org": {"dist/htmx.min.js": "htmx.min.js", "LICENSE": "htmx.LICENSE"},
    "htmx-ext-sse": {"sse.js": "sse.js", "LICENSE": "sse.LICENSE"},
}


def unpack(folder: Path) -> list[Path]:
    """Put the files into a folder, and return them.

    Not callable from inside an event loop.

    Raises:
        LocalStackError: a jar cannot be had.
        OSError: the folder cannot be written.
    """
    jars = pinned_jars(PINS)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for jar, path in zip(jars, asyncio.run(fetch_jars(jars, cache_folder() / "webjars")), strict=True):
        _, name, version = jar.coordinate.split(":")
        with zipfile.ZipFile(path) as archive:
            for inside, file in _INSIDE[name].items():
                content = archive.read(f"META-INF/resources/webjars/{name}/{version}/{inside}")
                (folder / file).write_bytes(content)
                made.append(folder / file)
    return made


if __name__ == "__main__":
    unpack(Path(__file__).parents[1] / FOLDER)

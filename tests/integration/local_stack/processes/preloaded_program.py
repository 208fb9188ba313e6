"""A program for copies of a preloaded process: says what it is, then does what its argument says."""

import json
import os
import random
import signal
import sys
import uuid
from pathlib import Path

import uuid_utils


def last_words(kind: type[BaseException], error: BaseException, _: object) -> None:
    sys.stdout.write(f"last words of {kind.__name__}: {len(str(error))}\n")


def main() -> None:
    said = {
        "arguments": sys.argv[1:],
        "folder": str(Path.cwd()),
        "session": os.getsid(0),
        "random": random.random(),
        "ids": [str(uuid.uuid4()), str(uuid_utils.uuid7())],
    }
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    if sys.argv[1] == "end":
        sys.exit(int(sys.argv[2]))
    if sys.argv[1] == "crash":
        sys.excepthook = last_words
        raise ValueError(sys.argv[2])
    if sys.argv[1] == "stay":
        signal.pause()

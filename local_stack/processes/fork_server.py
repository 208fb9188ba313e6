"""Prepares the standard library's fork server, which imports this module first; nothing else does.

It has the server import what every process needs, once. It also sees to what the server does not do by itself: it dies
with the supervisor, writes to a log of its own, and ends where its processes would not be safe.
"""

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from local_stack.logs import open_log
from local_stack.processes.child import UMASK
from local_stack.processes.death_signal import die_with_parent
from local_stack.processes.preloaded import TOLD_VARIABLE


def prepare(told: dict[str, Any]) -> None:
    """Import the modules; end the process, with the reason in its log, where one fails or starts a thread."""
    os.umask(UMASK)
    os.setsid()  # a Ctrl-C or a closed terminal is for the supervisor alone
    with open_log(Path(told["log"])) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    die_with_parent(told["supervisor"], signal.SIGKILL)  # its processes get their death signal by its end
    gc.disable()  # imports leave no garbage
    try:
        for name in told["modules"]:
            importlib.import_module(name)
    except ImportError:  # the server would pass over it in silence
        traceback.print_exc()
        sys.exit(1)
    gc.freeze()  # otherwise each process's collector would copy all these pages, which takes half a second
    gc.enable()
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        sys.exit("an import has started a thread: forks of this process would not be safe")


prepare(json.loads(os.environ[TOLD_VARIABLE]))

"""The commands that are processes: the APIs, the console, the relay, the projectors.

Their logs are JSON, and they have no threads of greenlet's. Where rich and greenlet are installed, as they are for our
other commands, structlog and httpx would import them all the same: 85 modules, 5 MB and 70 ms for each process. So
these do not find them.
"""

import sys

_UNUSED = {"rich", "greenlet"} - sys.modules.keys()

sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type]
import structlog  # noqa: E402, F401

for _name in _UNUSED:
    del sys.modules[_name]
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

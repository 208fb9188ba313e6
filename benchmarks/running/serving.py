"""Serves an app of Muster's in one process as `muster serve` does, transport and all.

`python -m benchmarks.running.serving MODULE:FACTORY PORT`; the reference apps have uvicorn's own command line.
"""

import sys
from importlib import import_module

import uvicorn

from chassis.http.listening import server_config
from chassis.settings import Transport, load
from local_stack.ports import LOCALHOST


def main(factory: str, port: str) -> None:
    """Serve until the process is told to stop."""
    module, _, name = factory.partition(":")
    app = getattr(import_module(module), name)
    uvicorn.Server(server_config(app, load(Transport), factory=True, host=LOCALHOST, port=int(port))).run()


if __name__ == "__main__":
    main(*sys.argv[1:])

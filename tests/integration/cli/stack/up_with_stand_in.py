"""Runs `muster up` with the stand-in in place of `muster`: FOLDER, then the ports; SERVERS says which servers."""

import json
import os
import sys
from pathlib import Path

from cli.stack.foreground import UpOptions, run_stack
from cli.stack.settings import Ports
from local_stack.processes.preloaded import Program
from local_stack.servers import ServerOptions

if __name__ == "__main__":
    command = (sys.executable, str(Path(__file__).with_name("stand_in_muster.py")))
    stand_in = Program(command, "", ())
    ports = Ports(*map(int, sys.argv[2:14]))
    servers = ServerOptions(**json.loads(os.environ.get("SERVERS", "{}")))
    sys.exit(run_stack(UpOptions(Path(sys.argv[1]), ports, verbose="-v" in sys.argv, servers=servers), stand_in))

"""Runs `muster up` with the stand-in in place of `muster`: FOLDER, then the eight ports."""

import sys
from pathlib import Path

from cli.stack.foreground import UpOptions, run_stack
from cli.stack.settings import Ports
from local_stack.processes.preloaded import Program

if __name__ == "__main__":
    command = (sys.executable, str(Path(__file__).with_name("stand_in_muster.py")))
    stand_in = Program(command, "", ())
    ports = Ports(*map(int, sys.argv[2:14]))
    sys.exit(run_stack(UpOptions(Path(sys.argv[1]), ports, verbose="-v" in sys.argv), stand_in))

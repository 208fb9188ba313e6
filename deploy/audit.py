"""`python -m deploy.audit`: looks for known vulnerabilities in every lock; `make .venv/.audit` installs what it uses.

The exit code is 0 where none is known, 1 where one is, and 2 where nothing was audited, since the advisories could not
be reached or say nothing of a package. So a build can tell a network that is away from a finding. `make audit` says the
same in words: make's own exit code is 2 for whatever fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TOOL: Final = ROOT / ".venv" / "audit" / "bin" / "pip-audit"
#: A package that could not be looked up is a failure, too.
_STRICTLY: Final = ("--strict", "--require-hashes", "--disable-pip", "--progress-spinner", "off")
_NOT_AUDITED: Final = (
    "NOTHING WAS AUDITED: the advisories could not be reached, or say nothing of a package; see above, check the"
    " network, then run it again.\n"
)


def audit(more: Sequence[str], *, tool: Path = TOOL) -> int:
    """Audit every lock, also of what only makes or tests, and print what is found; `more` are options of pip-audit."""
    locks = [word for lock in sorted((ROOT / "requirements").glob("*.txt")) for word in ("-r", str(lock))]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "found.txt"
        command = [str(tool), *_STRICTLY, "--output", str(report), *locks, *more]
        # Its own code is 1 for a finding as for a failure; only a finding is reported.
        is_fine = not subprocess.run(command, check=False).returncode  # noqa: S603 - ours
        found = report.read_text(encoding="utf-8") if report.exists() else ""
    sys.stdout.write(found)
    if is_fine:
        return 0
    if not found:
        sys.stderr.write(_NOT_AUDITED)
    return 1 if found else 2


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1:]))

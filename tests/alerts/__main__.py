"""`make test-alerts`: Prometheus reads the rules and their histories; then each alert is provoked in a running Muster.

Exit code 1 where promtool finds something wrong, or an alert does not fire.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.alerts.prometheus import FASTER, RULES
from tests.alerts.provocations import PROVOCATIONS, Provocation
from tests.alerts.stage import Stage, opened
from tests.chaos.report import last_change, table
from tests.infrastructure import throwaway_folder
from tests.unit.deploy.files import alerts
from tests.waiting import until

#: Within which all alerts of a provocation fire, on any machine; the slowest look of the relay's is one a minute.
FIRES_SECONDS: Final = 180.0
HEAD: Final = """\
# Alerts, as they were provoked

This page is written by a run of `make test-alerts`; nobody edits it. A real Prometheus watches a whole Muster that
clients use, with the rules of `deploy/prometheus/alerts.yaml`, while this is done to it, one after the other.
"""
METHOD: Final = f"""\
- Windows and patience of the rules are a {FASTER}th of theirs. Four thresholds would take too long to reach: events
  wait for 1 s instead of 60, tombstones are at risk after 5 s instead of 3.5 days, the outbox "grows" beyond 100
  events instead of a million, and is too large beyond 5 MB instead of 2 GB. All is asked and judged once a second.
- Seconds are from the beginning of what is done until all alerts of the line fire, so a minute of them is about an hour
  of the real rules where a window has to fill, and nothing like it where a fault shows at once.
- An alert counts that did not fire before. That others fire beside it is no fault: one cause has several effects.
- `promtool check rules` and `promtool test rules` found nothing wrong in the rules and their histories in the same run.
"""


@dataclass(frozen=True, slots=True)
class Fired:
    """What was done, and how many seconds later all its alerts fired; None: not in time, or before."""

    provocation: Provocation
    seconds: float | None


def main() -> int:
    """Try the rules, provoke the alerts, and write the page."""
    parser = argparse.ArgumentParser(prog="make test-alerts", description=__doc__)
    parser.add_argument("--tools", type=Path, required=True, help="the folder of prometheus and promtool")
    parser.add_argument("--only", default="", help="provoke only the alerts with these names, with commas between them")
    parser.add_argument("--into", type=Path, help="the page that is written; none without")
    options = parser.parse_args()
    # promtool runs in the rules' folder.
    tools = options.tools.absolute()
    for arguments in (("check", "rules", RULES.name), ("test", "rules", "alerts.test.yaml")):
        if subprocess.run([tools / "promtool", *arguments], cwd=RULES.parent, check=False).returncode:
            return 1
    wanted = set(options.only.split(",")) if options.only else {alert["alert"] for alert in alerts()}
    chosen = [each for each in PROVOCATIONS if each.alerts.keys() & wanted]
    done = asyncio.run(_provoke(chosen, tools / "prometheus"))
    written = page(done)
    if options.into:
        options.into.write_text(written, encoding="utf-8")
    sys.stdout.write(written)
    return 0 if all(each.seconds is not None for each in done) else 1


async def _provoke(chosen: Sequence[Provocation], program: Path) -> list[Fired]:
    folder = throwaway_folder()
    try:
        with (folder / "screen.txt").open("w", encoding="utf-8") as screen:
            async with opened(folder, screen, str(program)) as stage:
                return [await _fire(stage, each) for each in chosen]
    finally:
        shutil.rmtree(folder)


async def _fire(stage: Stage, provocation: Provocation) -> Fired:
    wanted = {(alert, severity) for alert, severities in provocation.alerts.items() for severity in severities}
    before = wanted & await stage.prometheus.firing()
    fired: set[tuple[str, str]] = set()

    async def all_fire() -> bool:
        fired.update(await stage.prometheus.firing())
        return wanted <= fired

    began, seconds = time.monotonic(), None
    async with provocation.strike(stage):
        with suppress(AssertionError):
            await until(all_fire, within=FIRES_SECONDS, what="the alerts to fire")
            seconds = time.monotonic() - began
    if before:
        sys.stdout.write(f"{provocation.words}: these fired before: {sorted(before)}\n")
        seconds = None
    after = f"not in time, only {sorted(fired)}" if seconds is None else f"after {seconds:.0f} s"
    sys.stdout.write(f"{provocation.words}: {', '.join(provocation.alerts)} {after}\n")
    sys.stdout.flush()
    return Fired(provocation, seconds)


def page(done: Sequence[Fired]) -> str:
    """The page."""
    provoked = {alert for each in done if each.seconds is not None for alert in each.provocation.alerts}
    every = {alert["alert"] for alert in alerts()}
    told = (
        ("Alerts that fired", f"**{len(provoked)}** of {len(every)}"),
        ("Command", "`make test-alerts`"),
        ("Muster's last change, date", f"{last_change()}, {datetime.now(UTC):%Y-%m-%d}"),
        ("Machine", f"{os.cpu_count()} cores, {sys.platform}, load {os.getloadavg()[0]:.0f}"),
    )
    heads = ("What was done", "Alerts", "After, s")
    return "\n".join([HEAD, *table(("", ""), told, "ll"), "", *table(heads, _rows(done), "llr"), "", METHOD])


def _rows(done: Sequence[Fired]) -> Iterator[tuple[str, str, str]]:
    for each in done:
        names = (
            f"[{alert}](how-to/alerts/{page}) ({', '.join(severities)})"
            for alert, severities in each.provocation.alerts.items()
            for page in [_runbook(alert)]
        )
        yield each.provocation.words, ", ".join(names), "not in time" if each.seconds is None else f"{each.seconds:.0f}"


def _runbook(name: str) -> str:
    return next(Path(alert["annotations"]["runbook"]).name for alert in alerts() if alert["alert"] == name)


if __name__ == "__main__":
    sys.exit(main())

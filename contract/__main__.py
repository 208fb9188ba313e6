"""`make contract`: whether today's code keeps the contract with subscribers; with LOG=…, whether it reads a topic."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from typing import Final

from chassis.kafka.client import KAFKA_ERRORS
from chassis.settings import Kafka, load
from chassis.settings_error import SettingsError
from cli.stack.discovery import use_local_stack
from contract import gate
from contract.log import read_log

_UNREAD: Final[tuple[type[Exception], ...]] = (SettingsError, *KAFKA_ERRORS)


def main() -> int:
    """The exit code: 0 kept, 1 broken or not to be read, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="make contract", description="Check the contract with subscribers.")
    parser.add_argument(
        "--log",
        metavar="TOPIC",
        help="read this topic with today's code: of KAFKA_BOOTSTRAP_SERVERS, else of the local stack",
    )
    parser.add_argument("--release", action="store_true", help="note today's promises as those of the last release")
    options = parser.parse_args()
    broken = gate.broken_promises(datetime.now(UTC).date())
    if options.log and not broken:
        use_local_stack()
        try:
            broken = _read(options.log)
        except _UNREAD as error:
            print(f"{options.log} cannot be read: {error}", file=sys.stderr)
            return 1
    if broken:
        print(*broken, "The contract is broken.", sep="\n", file=sys.stderr)
        return 1
    if options.release:
        gate.release()
        print("Noted what this release promises.")
    print("The contract is kept.")
    return 0


def _read(topic: str) -> list[str]:
    report = asyncio.run(read_log(load(Kafka), topic))
    print(report.summary)
    return report.named


if __name__ == "__main__":
    sys.exit(main())

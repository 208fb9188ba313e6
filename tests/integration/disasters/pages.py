"""Disasters, and what the pages in docs/how-to say about them: their commands, as they stand there."""

import re
import shlex
from pathlib import Path
from textwrap import dedent

from chassis.kafka.client import admin, delete_topic, partition_counts
from chassis.settings import Kafka
from tests.waiting import until

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"


def blocks(page: str) -> list[list[str]]:
    """The lines of a page's blocks of commands."""
    found = re.findall(r"^ *```sh\n(.*?)^ *```", (HOW_TO / page).read_text(), re.DOTALL | re.MULTILINE)
    return [dedent(block).splitlines() for block in found]


def commands(page: str) -> list[list[str]]:
    """The arguments of each `muster` of a page."""
    words = [shlex.split(line) for block in blocks(page) for line in block]
    return [arguments for program, *arguments in words if program == "muster"]


async def lose_topic(kafka: Kafka, topic: str) -> None:
    """Delete a topic with all that is on it."""
    async with admin(kafka) as client:
        await delete_topic(client, topic)

        async def gone() -> bool:
            return not await partition_counts(client, [topic])

        await until(gone, within=15, what="the topic to be gone")

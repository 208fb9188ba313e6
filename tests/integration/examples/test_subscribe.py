"""The first program of the page of subscribers, as whoever copied it runs it."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from chassis.kafka.client import client_arguments
from chassis.settings import Kafka, Topics
from events.user_events import UserErased, UserRegistered, UserSnapshot
from tests.integration.projectors.stream import Publisher, new_user, record
from tests.waiting import until

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "subscribe.md"
#: How each of its lines begins.
SAID = ("keep ", "forget ", "ignored: ")


def program(kafka: Kafka, topics: Topics) -> str:
    """The program of the page, for the brokers, the topic and a group of the test."""
    found: str
    [found] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    replacements = {
        '"users.events"': repr(topics.events_topic),
        '"127.0.0.1:9092",': f"{kafka.kafka_bootstrap_servers!r}, **{login(kafka)!r},",
        '"newsletter"': repr(f"newsletter.{topics.events_topic}"),
    }
    for said, meant in replacements.items():
        assert said in found
        found = found.replace(said, meant)
    return found


def login(kafka: Kafka) -> dict[str, str]:
    """What the page says that the consumer takes where brokers ask for a login."""
    said = client_arguments(kafka)
    page = PAGE.read_text(encoding="utf-8")
    named = {name: said[name] for name in said if name.startswith(("sasl_", "security_")) and said[name]}
    assert all(name in page for name in named)
    return named


async def test_it_keeps_what_is_newer_and_forgets_whoever_is_erased(
    kafka: Kafka, topics: Topics, publisher: Publisher, tmp_path: Path
) -> None:
    script, out = tmp_path / "subscriber.py", tmp_path / "out.txt"
    script.write_text(program(kafka, topics), encoding="utf-8")
    ann, ben = new_user(1), new_user(2)
    registered = record(UserRegistered(user=ann))
    # What has come before comes again, and the tombstone of a repair may have the version that everybody has.
    await publisher.publish([registered, record(UserSnapshot(user=ann)), registered, record(UserErased(ann.id, 1))])
    await publisher.publish([record(UserRegistered(user=ben))])
    with out.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-u", str(script),
            env={**os.environ, "PYTHONPATH": str(ROOT / "kit")}, stdout=written, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:

            async def lines() -> list[str]:
                # The client logs, too, while a broker is young.
                found = [each for each in out.read_text().splitlines() if each.startswith(SAID)]
                return found if len(found) >= 3 or process.returncode is not None else []

            said = await until(lines, within=60, what="three lines")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    expected = [f"keep {ann.id} 1 {ann.email}", f"forget {ann.id}", f"keep {ben.id} 1 {ben.email}"]
    assert sorted(said) == sorted(expected), out.read_text()

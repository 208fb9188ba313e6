"""The subscriber in Java, as its page has it: compiled and run where there is a JDK."""

import asyncio
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from chassis.settings import Kafka, Topics
from events.user_events import UserErased, UserRegistered
from local_stack.kafka.jars import fetch_jars, jar_folder, pinned_jars
from tests.integration.examples.processes import variables
from tests.integration.projectors.stream import Publisher, new_user, record
from tests.waiting import until

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "subscribe-in-java.md"
JDK = shutil.which("javac")


def program() -> str:
    """The program of the page."""
    found: str
    [found] = re.findall(r"^```java\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return found


def test_the_page_shows_a_program_that_can_be_taken_in() -> None:
    assert len(program().splitlines()) <= 60


@pytest.mark.skipif(JDK is None, reason="THE PROGRAM OF docs/how-to/subscribe-in-java.md WAS NOT RUN: here is no JDK")
async def test_it_prints_each_event_and_forgets_the_erased(
    kafka: Kafka, topics: Topics, publisher: Publisher, tmp_path: Path
) -> None:
    await fetch_jars(pinned_jars(), jar_folder())
    source, out = tmp_path / "FollowUsers.java", tmp_path / "out.txt"
    source.write_text(program(), encoding="utf-8")
    ann = new_user()
    await publisher.publish([replace(record(UserRegistered(user=new_user(1))), value=b"no JSON")])
    told = variables(kafka, topics, GROUP=f"newsletter.{topics.events_topic}")
    assert JDK is not None
    with out.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            str(Path(JDK).with_name("java")), "-XX:TieredStopAtLevel=1", "-cp", f"{jar_folder()}{os.sep}*", str(source),
            env=told, stdout=written, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:

            async def has_passed_what_is_no_json() -> bool:
                assert process.returncode is None, out.read_text()
                return "no JSON at " in out.read_text()

            await until(has_passed_what_is_no_json, within=120, what="the damaged record")
            # The tombstone of a repair may have the version that everybody has.
            await publisher.publish([record(UserRegistered(user=ann)), record(UserErased(ann.id, 1))])

            async def lines() -> list[str]:
                found = [line for line in out.read_text().splitlines() if str(ann.id) in line]
                return found if len(found) == 2 or process.returncode is not None else []

            assert await until(lines, within=120, what="both events") == [
                f"muster.user.registered.v1 {ann.id} {ann.email}",
                f"forget {ann.id}",
            ], out.read_text()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

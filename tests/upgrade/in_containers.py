"""`make upgrade-containers`: the guide's upgrade in containers, walked to the letter while clients ask each API.

A clone of this checkout starts at an earlier commit; then the steps of docs/how-to/run-in-containers.md run in it, `git
pull` included. The image of that name is built anew, as `docker compose build` does in this checkout. Exit code 1 where
a step fails, an API answers nobody afterwards or ever 500, 2 where there is no engine or no branch to pull.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import httpx

from tests.upgrade.released import CHECKOUT, NotBuiltError, commit_of, released
from tests.waiting import until

PACE_SECONDS: Final = 0.05
#: What no client waits for longer.
ANSWER_SECONDS: Final = 10.0
#: A project of its own beside the one that may run here: it has the ports, though.
PROJECT: Final = {"COMPOSE_PROJECT_NAME": "muster-upgrade"}
#: Fails where no engine answers.
ENGINE: Final = ("docker", "compose", "ls", "-q")
#: Fails where no branch is checked out.
BRANCH: Final = ("git", "-C", str(CHECKOUT), "symbolic-ref", "-q", "HEAD")
#: What it means where one of these fails.
LACKS: Final = {
    ENGINE: "no Docker engine with Compose answers here",
    BRANCH: "no branch is checked out, so the guide's `git pull` has none to pull",
}
URLS: Final = {"command": "http://127.0.0.1:8000", "query": "http://127.0.0.1:8001", "event": "http://127.0.0.1:8005"}


@dataclass(slots=True)
class Seen:
    """What one client of an API saw; it asks again and again, and once each time."""

    outcomes: Counter[str] = field(default_factory=Counter)
    #: Seconds between two good answers, at most.
    gap: float = 0.0
    last: float = field(default_factory=time.monotonic)

    def note(self, outcome: str) -> None:
        """Count an answer's status, or what came instead."""
        self.outcomes[outcome] += 1
        if outcome.startswith("2"):
            now = time.monotonic()
            self.gap, self.last = max(self.gap, now - self.last), now


async def ask(api: str, http: httpx.AsyncClient, seen: Seen, over: asyncio.Event) -> None:
    """Ask one API until it is over."""
    while not over.is_set():
        name, url = uuid4().hex, URLS[api]
        body = {"email": f"{name}@example.com", "username": name, "password": "correct horse battery"}
        requests: dict[str, tuple[Any, ...]] = {
            "command": ("POST", f"{url}/users", body),
            "query": ("GET", f"{url}/users?limit=1", None),
            "event": ("GET", f"{url}/events?limit=1&from=beginning", None),
        }
        method, target, document = requests[api]
        try:
            answer = await http.request(method, target, json=document, headers={"Accept": "application/json"})
            seen.note(str(answer.status_code))
        except httpx.HTTPError as error:
            seen.note(type(error).__name__)
        await asyncio.sleep(PACE_SECONDS)


def steps() -> str:
    """The upgrade, as the guide has it."""
    guide = (CHECKOUT / "docs" / "how-to" / "run-in-containers.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^## Upgrade\n\n```\n(.+?)\n```$", guide, re.MULTILINE | re.DOTALL)
    return str(block)


async def run(folder: Path, script: str, *, told: bool = True) -> bytes:
    """Run a script in the clone; what it prints is passed on, or returned.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    stdout = None if told else asyncio.subprocess.PIPE
    command = ("bash", "-xeuc" if told else "-euc", script)
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=os.environ | PROJECT, stdout=stdout)
    output, _ = await process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, script)
    return output or b""


async def walk(folder: Path, seen: dict[str, Seen]) -> None:
    """Start, upgrade, and note what clients see from the first step until each API has answered after the last."""
    await run(folder, "docker compose up --build --wait --quiet-pull")
    token = (await run(folder, "docker compose run --rm secrets token --issuer /secrets/issuer", told=False)).decode()
    over, bearer = asyncio.Event(), {"Authorization": f"Bearer {token.strip()}"}
    async with httpx.AsyncClient(headers=bearer, timeout=ANSWER_SECONDS, trust_env=False) as http:
        clients = [asyncio.create_task(ask(api, http, seen[api], over)) for api in URLS]
        try:
            await answered(seen)
            for one in seen.values():
                one.outcomes.clear()
                one.gap = 0.0
            await run(folder, steps())
            await answered(seen)
        finally:
            over.set()
            await asyncio.gather(*clients)


async def answered(seen: dict[str, Seen]) -> None:
    """Wait until each API has given a good answer from now on."""
    began = time.monotonic()

    async def all_have() -> bool:
        return all(one.last > began for one in seen.values())

    await until(all_have, within=120, what="each API answers")


async def upgrade(commit: str, folder: Path, seen: dict[str, Seen]) -> None:
    """Walk in a new clone, and take away what it started."""
    await run(CHECKOUT, f"git clone -q . {folder} && git -C {folder} reset -q --hard {commit}")
    try:
        await walk(folder, seen)
    finally:
        await run(folder, "docker compose down --volumes --remove-orphans")


def main() -> int:
    """Walk, and tell what clients saw."""
    parser = argparse.ArgumentParser(prog="make upgrade-containers", description=__doc__)
    parser.add_argument("--from", dest="older", default=released(), help="another commit than tests/upgrade/RELEASED")
    older, seen = parser.parse_args().older, {api: Seen() for api in URLS}
    try:
        commit = commit_of(older)
        for needed in LACKS:
            subprocess.run(needed, check=True)
        with TemporaryDirectory(prefix="muster-upgrade-") as name:
            asyncio.run(upgrade(commit, Path(name) / "muster", seen))
    except (NotBuiltError, FileNotFoundError) as error:
        sys.stderr.write(f"NOTHING WAS UPGRADED: {error}\n")
        return 2
    except subprocess.CalledProcessError as error:
        if lack := LACKS.get(error.cmd):
            sys.stderr.write(f"NOTHING WAS UPGRADED: {lack}.\n")
            return 2
        sys.stderr.write(f"A step failed with {error.returncode}; what it ran says more above.\n")
    else:
        # 503 is what an API says while it ends or waits for a database.
        return int(any("500" in one.outcomes for one in seen.values()))
    finally:
        for api, one in seen.items():
            if one.outcomes:
                sys.stdout.write(f"{api}: {dict(one.outcomes)}; longest without a good answer {one.gap:.1f} s\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())

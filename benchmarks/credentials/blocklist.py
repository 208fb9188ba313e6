"""What a look-up in a block list of a million costs, and what its file takes."""

import asyncio
import io
import random
import time
from typing import Final

from benchmarks.reporting.figures import Figure, variation_of
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from command_api.passwords.blocklist import Blocklist
from command_api.passwords.blocklist_build import build

LISTED, LISTED_QUICK = 1_000_000, 20_000
LOOK_UPS: Final = 20_000
LOOK_UP_US: Final = 50
ENTRY_BYTES: Final = 16


async def look_up(plan: Plan, result: Result) -> None:
    """Add both claims; half of the passwords that are looked up are listed, the others go through both lists."""
    count = LISTED_QUICK if plan.quick else LISTED
    numbers = random.Random(count)
    listed = [f"{numbers.getrandbits(64):x} listed" for _ in range(count)]
    path = plan.folder / "passwords.blocklist"
    built = await asyncio.to_thread(build, io.BytesIO("\n".join(listed).encode()), path)
    asked = [*numbers.sample(listed, LOOK_UPS // 2), *(f"{numbers.getrandbits(64):x}" for _ in range(LOOK_UPS // 2))]
    numbers.shuffle(asked)
    with Blocklist.open(path) as blocklist:
        took = tuple(_microseconds(blocklist, asked) for _ in range(plan.rounds))
    result.claim(
        f"look-up in a block list of {built.entries:,}", Figure(took, variation_of(took)), at_most=LOOK_UP_US, unit="µs"
    )
    size = Figure.once(path.stat().st_size / built.entries)
    result.claim("bytes of its file, an entry", size, at_most=ENTRY_BYTES, unit="B")


def _microseconds(blocklist: Blocklist, asked: list[str]) -> float:
    """Of one look-up, the mean."""
    start = time.perf_counter()
    found = sum(password in blocklist for password in asked)
    seconds = time.perf_counter() - start
    assert found == LOOK_UPS // 2, "the listed half"
    return seconds / len(asked) * 1e6

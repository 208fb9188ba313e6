import os
from pathlib import Path

from local_stack.kafka.broker import HALF_MADE_SECONDS, UNUSED_SECONDS, prune_caches

NOW = 2_000_000_000.0


def made(folder: Path, name: str, age: float) -> Path:
    path = folder / name
    path.touch()
    os.utime(path, (NOW - age, NOW - age))
    return path


def test_start_up_caches_long_unused_or_half_made_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [
        made(tmp_path, "start-up-4.3.1-new.aot", UNUSED_SECONDS - 1),
        made(tmp_path, "start-up-4.3.1-new.aot.0a1b", HALF_MADE_SECONDS - 1),
        made(tmp_path, "kafka.jar", UNUSED_SECONDS + 1),
    ]
    for name, age in [
        ("start-up-4.3.1-old.aot", UNUSED_SECONDS + 1),
        ("start-up-4.3.1-old.aot.0a1b", HALF_MADE_SECONDS + 1),
        ("start-up-4.3.1-old.aot.0a1b.config", HALF_MADE_SECONDS + 1),
    ]:
        made(tmp_path, name, age)

    prune_caches(tmp_path, NOW)

    assert sorted(tmp_path.iterdir()) == sorted(kept)

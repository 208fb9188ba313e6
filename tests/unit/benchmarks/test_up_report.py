"""The steps of a start are read from what `muster up` says."""

from pathlib import Path

from benchmarks.cold_start.up import Up

REPORT = """\
The databases are migrated 1.1 s
Muster is ready after 5.4 s
PostgreSQL 0.9 s · Databases 0.1 s · Kafka 2.1 s · Kafka's jars (45 MB, once) 3.0 s · Services 2.2 s
Logs are in /somewhere
"""


def test_every_step_is_found_with_its_seconds(tmp_path: Path) -> None:
    up = Up(tmp_path / "stack")
    up.log.write_text(REPORT, encoding="utf-8")

    assert up.steps() == {
        "PostgreSQL": 0.9,
        "Databases": 0.1,
        "Kafka": 2.1,
        "Kafka's jars (45 MB, once)": 3.0,
        "Services": 2.2,
    }

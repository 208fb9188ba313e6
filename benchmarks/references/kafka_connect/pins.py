"""Regenerates jars.txt: `python -m benchmarks.references.kafka_connect.pins`, after changing a version.

Only what the broker's own list lacks is listed, since the worker takes the broker's jars first: both are of one version
of Kafka. As with the broker's list, review the diff.
"""

import tempfile
from pathlib import Path
from typing import Final

from jgo.maven import MavenContext

from local_stack.kafka.jars import KAFKA_VERSION, pinned_jars
from local_stack.kafka.pins import resolved, row

PINS: Final = Path(__file__).with_name("jars.txt")
DEBEZIUM_VERSION: Final = "3.6.1.Final"
#: The worker, the converters and transforms that come with it, and the connector, which brings the event router.
WANTED: Final = (
    *(f"org.apache.kafka:connect-{part}:{KAFKA_VERSION}" for part in ("runtime", "api", "json", "transforms")),
    f"io.debezium:debezium-connector-postgres:{DEBEZIUM_VERSION}",
)
HEADER: Final = f"""\
# Kafka Connect {KAFKA_VERSION} and Debezium {DEBEZIUM_VERSION}, beside the broker's jars. Coordinate, bytes, SHA-256.
# Made by `python -m benchmarks.references.kafka_connect.pins`.
"""


def main() -> None:
    """Resolve, leave out what the broker has, fetch, hash, write."""
    present = {jar.coordinate.rpartition(":")[0] for jar in pinned_jars()}
    with tempfile.TemporaryDirectory() as staging:
        artifacts = resolved(MavenContext(repo_cache=Path(staging)), *WANTED)
        rows = [row(each) for each in artifacts if f"{each.groupId}:{each.artifactId}" not in present]
    PINS.write_text(HEADER + "".join(rows), encoding="ascii")


if __name__ == "__main__":
    main()

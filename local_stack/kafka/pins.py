"""Regenerates jars.txt: `python -m local_stack.kafka.pins`, after changing Kafka's version.

It resolves Kafka's runtime dependencies with jgo, adds a logging implementation and tools, fetches every file, and
writes coordinate, size and SHA-256 in class path order. It trusts what the repository gives at this moment: review the
diff.
"""

import tempfile
from pathlib import Path
from typing import Any

from jgo.maven import MavenContext

from local_stack.kafka.jars import KAFKA_VERSION, PINS, sha256_of

KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"

# Kafka depends on a logging interface and on no implementation; without one, a broker that cannot start dies without a
# word. This one has 15 kB, writes to stderr and is configured by system properties.
LOGGING = "org.slf4j:slf4j-simple:1.7.36"

# Kafka's own tools, for people: the broker does without. Those that docs/how-to has need nothing else.
TOOLS = f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}"

LIST_HEADER = """\
# Apache Kafka {version}: {count} jars, one that logs, its tools. Coordinate, bytes, SHA-256; in class path order.
# Made by `python -m local_stack.kafka.pins`.
"""


def main() -> None:
    """Resolve, fetch, hash, write."""
    with tempfile.TemporaryDirectory() as staging:
        context = MavenContext(repo_cache=Path(staging))
        artifacts = resolved(context, KAFKA)
        header = LIST_HEADER.format(version=KAFKA_VERSION, count=len(artifacts))
        artifacts += [context.create_dependency(coordinate).artifact for coordinate in (LOGGING, TOOLS)]
        PINS.write_text(header + "".join(map(row, artifacts)), encoding="ascii")


def resolved(context: MavenContext, *coordinates: str) -> list[Any]:
    """Return the artifacts of these coordinates and of all that they need at run time, in class path order."""
    inputs, transitive = context.resolver.resolve([context.create_dependency(each) for each in coordinates])
    runtime = [dependency for dependency in transitive if dependency.scope in {"compile", "runtime"}]
    return [dependency.artifact for dependency in (*inputs, *runtime)]


def row(artifact: Any) -> str:
    """Fetch an artifact and return its line of a list: coordinate, size and SHA-256."""
    path = artifact.resolve()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return f"{coordinate} {path.stat().st_size} {sha256_of(path)}\n"


if __name__ == "__main__":
    main()

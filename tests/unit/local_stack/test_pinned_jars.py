import re

from local_stack.kafka.jars import KAFKA_VERSION, pinned_jars


def test_pins_all_of_kafkas_jars_one_that_writes_its_log_and_its_tools() -> None:
    coordinates = [jar.coordinate for jar in pinned_jars()]

    assert coordinates[0] == f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
    assert sum(coordinate.startswith("org.slf4j:slf4j-simple:") for coordinate in coordinates) == 1
    assert len(set(coordinates)) == len(coordinates) == 45 + 2
    assert coordinates[-1] == f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}"


def test_pins_every_jar_by_size_and_sha256() -> None:
    jars = pinned_jars()

    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert all(jar.size > 0 for jar in jars)


def test_gives_every_jar_a_file_name_of_its_own() -> None:
    jars = pinned_jars()

    assert len({jar.filename for jar in jars}) == len(jars)

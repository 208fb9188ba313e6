"""Kafka Connect is of the broker's version, from pinned jars, and is given every header of an event."""

from benchmarks.references.kafka_connect.pins import PINS
from benchmarks.references.kafka_connect.worker import connector
from events.envelope import HEADER_NAMES
from local_stack.kafka.jars import KAFKA_VERSION, pinned_jars
from local_stack.postgres.server import ServerAddress

JARS = pinned_jars(PINS)


def artifact(coordinate: str) -> str:
    return coordinate.rpartition(":")[0]


def test_kafka_is_of_the_brokers_version() -> None:
    kafka = {jar.coordinate for jar in JARS if jar.coordinate.startswith("org.apache.kafka:")}

    assert f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}" in kafka
    assert {coordinate.rpartition(":")[2] for coordinate in kafka} == {KAFKA_VERSION}


def test_no_jar_is_on_the_class_path_in_two_versions() -> None:
    everything = [artifact(jar.coordinate) for jar in [*pinned_jars(), *JARS]]

    assert sorted(everything) == sorted(set(everything))


def test_every_jar_has_its_hash() -> None:
    assert [jar.coordinate for jar in JARS if len(jar.sha256) != 64] == []


def test_every_header_is_placed_from_a_column_whose_name_the_router_can_read() -> None:
    settings = connector(ServerAddress("127.0.0.1", 5432, "muster", "secret"), "connect", "users.events", HEADER_NAMES)

    placed = settings["transforms.outbox.table.fields.additional.placement"].split(",")
    assert [place.partition(":header:")[2] for place in placed] == list(HEADER_NAMES)
    assert all(place.partition(":")[0].isidentifier() for place in placed)

"""How many servers a stack has: by what is asked for now and before, and refused where its data cannot be served so."""

from pathlib import Path

import pytest

from local_stack.errors import LocalStackError
from local_stack.servers import AS_BEFORE, FILE_NAME, ONE_OF_EACH, ServerOptions, Servers, ServerSet, chosen_servers

ALL = ServerSet(brokers=3, standby=True, synchronous=True)


def started(folder: Path, chosen: ServerSet) -> None:
    """As a start leaves it, as far as this looks."""
    Servers(folder, chosen, postgres_port=5433, kafka_port=9092, logs=folder, principals=()).remember()
    broker = folder / "kafka" / "data"
    broker.mkdir(parents=True, exist_ok=True)
    (broker / "meta.properties").touch()


def test_there_is_one_of_each_where_nothing_was_asked_for(tmp_path: Path) -> None:
    assert chosen_servers(tmp_path, AS_BEFORE) == ONE_OF_EACH


def test_a_start_without_options_is_as_the_last_one(tmp_path: Path) -> None:
    started(tmp_path, ALL)

    assert chosen_servers(tmp_path, AS_BEFORE) == ALL


@pytest.mark.parametrize(("before", "now"), [(1, 3), (3, 1)])
def test_data_of_so_many_brokers_are_not_given_to_another_number(tmp_path: Path, before: int, now: int) -> None:
    started(tmp_path, ServerSet(brokers=before))

    with pytest.raises(LocalStackError, match=rf"made with {before} broker.*--folder.*muster reset.*--brokers {now}"):
        chosen_servers(tmp_path, ServerOptions(brokers=now))
    assert chosen_servers(tmp_path, ServerOptions(brokers=before)).brokers == before


def test_before_there_are_data_the_number_may_change(tmp_path: Path) -> None:
    started(tmp_path, ALL)
    (tmp_path / "kafka" / "data" / "meta.properties").unlink()

    assert chosen_servers(tmp_path, ServerOptions(brokers=1)).brokers == 1


def test_data_of_a_version_that_knew_one_of_each_are_as_such(tmp_path: Path) -> None:
    started(tmp_path, ONE_OF_EACH)
    (tmp_path / FILE_NAME).unlink()

    with pytest.raises(LocalStackError, match="made with 1 broker"):
        chosen_servers(tmp_path, ServerOptions(brokers=3))
    assert chosen_servers(tmp_path, ServerOptions(standby=True)) == ServerSet(standby=True)


def test_nobody_waits_for_a_standby_that_is_not_there(tmp_path: Path) -> None:
    started(tmp_path, ALL)

    assert chosen_servers(tmp_path, ServerOptions(standby=False)) == ServerSet(brokers=3)
    with pytest.raises(LocalStackError, match="add --standby"):
        chosen_servers(tmp_path, ServerOptions(standby=False, synchronous=True))


def test_a_file_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")

    with pytest.raises(LocalStackError, match=rf"{FILE_NAME} cannot be read.*muster reset"):
        chosen_servers(tmp_path, AS_BEFORE)


def test_the_copy_of_a_standby_that_was_given_up_goes_but_not_one_that_was_promoted(tmp_path: Path) -> None:
    data = tmp_path / "postgres-standby" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").touch()

    with pytest.raises(LocalStackError, match="was promoted"):
        started(tmp_path, ONE_OF_EACH)
    assert data.is_dir()

    (data / "standby.signal").touch()
    started(tmp_path, ONE_OF_EACH)
    assert not data.exists()


def test_ports_above_those_that_were_chosen_are_named_by_their_options() -> None:
    assert list(ALL.more_ports(kafka=9092, postgres=5433).values()) == [9093, 9094, 5434]
    assert ONE_OF_EACH.more_ports(kafka=9092, postgres=5433) == {}
    with pytest.raises(LocalStackError, match="no port 65536: choose a lower one with --kafka-port"):
        ALL.more_ports(kafka=65534, postgres=5433)

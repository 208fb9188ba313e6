"""How a setting names the servers of a database."""

import pytest

from chassis.postgres_address.hosts import read_hosts
from chassis.settings import CommandPostgres, load
from chassis.settings_error import SettingsError

LOGIN = {"POSTGRES_USER": "u", "POSTGRES_PASSWORD": "p", "COMMAND_POSTGRES_DB": "c"}


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("db", [("db", 5432)]),
        ("db-a, db-b:6432", [("db-a", 5432), ("db-b", 6432)]),
        ("::1", [("::1", 5432)]),
        ("[fe80::1]:6432,10.0.0.1", [("fe80::1", 6432), ("10.0.0.1", 5432)]),
    ],
)
def test_each_server_has_its_own_port_or_the_one_of_all(text: str, hosts: list[tuple[str, int]]) -> None:
    assert read_hosts(text, 5432) == hosts


@pytest.mark.parametrize("text", ["a,", ",a", "a b", "a:0", "a:65536", "[::1", "a:b", "a:1:"])
def test_what_is_no_server_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name, value in {**LOGIN, "POSTGRES_SERVER": text}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as refused:
        load(CommandPostgres)

    [line] = refused.value.lines
    assert line.startswith("COMMAND_POSTGRES_SERVER (or POSTGRES_SERVER) is wrong")
    assert "HOST or HOST:PORT" in line


def test_more_servers_than_anybody_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**LOGIN, "POSTGRES_SERVER": ",".join("abcdefghi")}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match="more than 8 servers"):
        load(CommandPostgres)


def test_a_message_names_every_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**LOGIN, "POSTGRES_SERVER": "a,[::1]:6432"}.items():
        monkeypatch.setenv(name, value)

    assert str(load(CommandPostgres).command_database) == "u@a:5432,[::1]:6432/c"

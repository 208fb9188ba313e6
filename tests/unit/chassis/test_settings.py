"""Settings fail fast, name every variable, and never show a secret."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from chassis.settings import CommandPostgres, Http, Kafka, QueryPostgres, Settings, load
from chassis.settings_error import SettingsError
from tests.certificates import Authority

POSTGRES = {"POSTGRES_USER": "muster", "POSTGRES_PASSWORD": "hunter2!", "POSTGRES_SERVER": "db.example.com"}


class Both(CommandPostgres, QueryPostgres):
    """An operator's tool."""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No variable of ours and no .env."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    for settings in (Both, Kafka, Http):
        for name in _variables(settings):
            monkeypatch.delenv(name, raising=False)


def _variables(settings: type[Settings]) -> set[str]:
    names = set()
    for field in settings.model_fields.values():
        alias = field.validation_alias
        names |= {str(choice) for choice in getattr(alias, "choices", [alias])}
    return names


def give(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_the_guides_names_serve_both_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, **POSTGRES, COMMAND_POSTGRES_DB="c", QUERY_POSTGRES_DB="q")

    settings = load(Both)

    assert str(settings.command_database) == "muster@db.example.com:5432/c"
    assert str(settings.query_database) == "muster@db.example.com:5432/q"


def test_a_prefixed_name_goes_before_the_shared_one(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, **POSTGRES, COMMAND_POSTGRES_DB="c", QUERY_POSTGRES_DB="q", QUERY_POSTGRES_SERVER="replica")

    settings = load(Both)

    assert settings.command_database.server == "db.example.com"
    assert settings.query_database.server == "replica"


def test_the_driver_gets_the_address_and_nothing_that_is_printed_has_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give(monkeypatch, **POSTGRES, COMMAND_POSTGRES_DB="c", POSTGRES_PORT="6432")

    address = load(CommandPostgres).command_database

    assert address.connect_arguments == {
        "host": "db.example.com",
        "port": 6432,
        "user": "muster",
        "password": "hunter2!",
        "database": "c",
        "dsn": "postgresql://?sslmode=prefer",
    }
    assert "hunter2" not in str(address) + repr(address) + repr(load(CommandPostgres))


def test_the_pool_is_20_and_10_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, **POSTGRES, COMMAND_POSTGRES_DB="c")
    assert (load(CommandPostgres).command_database.pool_size, load(CommandPostgres).command_database.max_overflow) == (
        20,
        10,
    )

    give(monkeypatch, POSTGRES_POOL_SIZE="3", COMMAND_POSTGRES_MAX_OVERFLOW="0")

    assert load(CommandPostgres).command_database.pool_size == 3
    assert load(CommandPostgres).command_database.max_overflow == 0


def test_each_missing_variable_is_one_line_with_an_example() -> None:
    with pytest.raises(SettingsError) as caught:
        load(CommandPostgres)

    assert caught.value.lines == [
        "COMMAND_POSTGRES_USER (or POSTGRES_USER) is missing; for example COMMAND_POSTGRES_USER=muster",
        (
            "COMMAND_POSTGRES_PASSWORD (or POSTGRES_PASSWORD) is missing;"
            " for example COMMAND_POSTGRES_PASSWORD=a-long-secret"
        ),
        "COMMAND_POSTGRES_SERVER (or POSTGRES_SERVER) is missing; for example COMMAND_POSTGRES_SERVER=127.0.0.1",
        "COMMAND_POSTGRES_DB is missing; for example COMMAND_POSTGRES_DB=muster_command",
    ]


def test_an_empty_variable_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, KAFKA_BOOTSTRAP_SERVERS="")

    with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP_SERVERS is missing"):
        load(Kafka)


def test_a_wrong_variable_says_what_is_wrong_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, **POSTGRES, COMMAND_POSTGRES_DB="c", COMMAND_POSTGRES_PORT="99999-secret")

    with pytest.raises(SettingsError) as caught:
        load(CommandPostgres)

    [line] = caught.value.lines
    assert line.startswith("COMMAND_POSTGRES_PORT (or POSTGRES_PORT) is wrong: input should be a valid integer")
    assert "secret" not in line


def test_a_dotenv_file_is_read_and_the_environment_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("KAFKA_BOOTSTRAP_SERVERS=from-file:9092\nUNKNOWN_TO_US=1\n", encoding="utf-8")
    assert load(Kafka).kafka_bootstrap_servers == "from-file:9092"

    give(monkeypatch, KAFKA_BOOTSTRAP_SERVERS="from-environment:9092")

    assert load(Kafka).kafka_bootstrap_servers == "from-environment:9092"


def test_cors_is_closed_unless_origins_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(Http).cors_origins == []

    give(monkeypatch, CORS_ALLOW_ORIGINS="https://a.example, https://b.example")

    assert load(Http).cors_origins == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize("servers", ["localhost", "localhost:", ":9092", "a:1,b", "a b:1"])
def test_bootstrap_servers_are_hosts_with_ports(monkeypatch: pytest.MonkeyPatch, servers: str) -> None:
    give(monkeypatch, KAFKA_BOOTSTRAP_SERVERS=servers)

    with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP_SERVERS is wrong"):
        load(Kafka)


def test_a_value_can_come_from_a_file_without_the_newline_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("from a file \n\n")
    (tmp_path / "port").write_text("6432")
    given = {name: value for name, value in POSTGRES.items() if name != "POSTGRES_PASSWORD"}
    give(monkeypatch, **given, COMMAND_POSTGRES_DB="c", COMMAND_POSTGRES_PASSWORD_FILE=str(tmp_path / "password"))
    Path(".env").write_text(f"POSTGRES_PORT_FILE={tmp_path / 'port'}\n")

    address = load(CommandPostgres).command_database

    assert (address.password.get_secret_value(), address.port) == ("from a file \n", 6432)


def test_the_file_of_a_prefixed_name_goes_before_the_shared_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "user").write_text("own")
    give(monkeypatch, **POSTGRES, COMMAND_POSTGRES_DB="c", COMMAND_POSTGRES_USER_FILE=str(tmp_path / "user"))

    assert load(CommandPostgres).command_database.user == "own"


def test_a_file_that_cannot_be_meant_is_told_by_name_and_without_its_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "binary").write_bytes(b"hunter2\xff")
    (tmp_path / "long").write_text("hunter2" * 10_000)
    (tmp_path / "fine").write_text("hunter2")
    give(
        monkeypatch,
        **POSTGRES,
        POSTGRES_PASSWORD_FILE=str(tmp_path / "fine"),
        POSTGRES_PORT_FILE=str(tmp_path / "missing"),
        POSTGRES_POOL_SIZE_FILE=str(tmp_path / "binary"),
        POSTGRES_MAX_OVERFLOW_FILE=str(tmp_path / "long"),
    )

    with pytest.raises(SettingsError) as refused:
        load(CommandPostgres)

    assert refused.value.lines == [
        "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set: keep one of them",
        (
            f"POSTGRES_PORT_FILE names {tmp_path / 'missing'}, which cannot be read (No such file or directory):"
            " mend that, or set POSTGRES_PORT"
        ),
        (
            f"POSTGRES_POOL_SIZE_FILE names {tmp_path / 'binary'}, which cannot be read (it is not UTF-8):"
            " mend that, or set POSTGRES_POOL_SIZE"
        ),
        (
            f"POSTGRES_MAX_OVERFLOW_FILE names {tmp_path / 'long'}, which cannot be read (it has more than 64 KiB):"
            " mend that, or set POSTGRES_MAX_OVERFLOW"
        ),
    ]


def test_an_empty_file_counts_as_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    give(monkeypatch, **POSTGRES, COMMAND_POSTGRES_DB_FILE=str(tmp_path / "empty"))

    with pytest.raises(SettingsError, match="COMMAND_POSTGRES_DB is missing"):
        load(CommandPostgres)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files by what they are."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    ours, other = authority.sign("ours"), authority.sign("other")
    (folder / "text").write_text("no PEM", encoding="ascii")
    shown = authority.sign("shown")
    shown.key.chmod(0o644)
    return {
        "shown certificate": str(shown.certificate),
        "shown key": str(shown.key),
        "authority": str(authority.file),
        "certificate": str(ours.certificate),
        "key": str(ours.key),
        "other key": str(other.key),
        "text": str(folder / "text"),
        "nothing": str(folder / "nothing"),
    }


def give_tls(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], given: dict[str, str]) -> None:
    """Set POSTGRES_… or, where the name says so, another database's; values are files of the fixture or words."""
    give(monkeypatch, **POSTGRES, COMMAND_POSTGRES_DB="c", QUERY_POSTGRES_DB="q")
    for name, value in given.items():
        variable = name if "POSTGRES" in name else f"POSTGRES_{name}"
        monkeypatch.setenv(variable, files.get(value, value))


@pytest.mark.parametrize(
    "given",
    [
        {"SSLMODE": "require", "SSLCERT": "certificate", "SSLKEY": "key"},
        {"SSLMODE": "require", "SSLROOTCERT": "authority"},
        {"SSLMODE": "verify-full", "SSLROOTCERT": "system"},
        {"SSLMODE": "verify-full", "SSLROOTCERT": "authority", "COMMAND_POSTGRES_SSLMODE": "disable"},
    ],
)
def test_tls_is_told_in_libpqs_words(
    monkeypatch: pytest.MonkeyPatch, tls: dict[str, str], given: dict[str, str]
) -> None:
    give_tls(monkeypatch, tls, given)

    settings = load(Both)

    assert settings.query_database.tls.sslmode == given["SSLMODE"]
    assert settings.command_database.tls.sslmode == given.get("COMMAND_POSTGRES_SSLMODE", given["SSLMODE"])
    assert settings.query_database.tls.sslrootcert == tls.get(given.get("SSLROOTCERT", ""), given.get("SSLROOTCERT"))


def test_the_files_of_certificates_are_named_by_variable(monkeypatch: pytest.MonkeyPatch, tls: dict[str, str]) -> None:
    give_tls(
        monkeypatch, tls, {"SSLMODE": "verify-full", "SSLROOTCERT": "system", "SSLCERT": "certificate", "SSLKEY": "key"}
    )
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    monkeypatch.setenv("KAFKA_SSL_CAFILE", tls["authority"])

    assert load(Both).certificate_files == {
        "COMMAND_POSTGRES_SSLCERT": tls["certificate"],
        "QUERY_POSTGRES_SSLCERT": tls["certificate"],
    }
    assert load(Kafka).certificate_files == {"KAFKA_SSL_CAFILE": tls["authority"]}


@pytest.mark.parametrize(
    ("mode", "is_taken"),
    [
        (0o600, True),
        (0o400, True),
        (0o640, os.geteuid() == 0),
        (0o660, False),
        (0o610, False),
        (0o604, False),
        (0o601, False),
    ],
)
def test_a_private_key_is_its_owners_alone_as_libpq_has_it(
    monkeypatch: pytest.MonkeyPatch, tls: dict[str, str], tmp_path: Path, mode: int, *, is_taken: bool
) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(Path(tls["key"]).read_bytes())
    key.chmod(mode)
    give_tls(monkeypatch, tls, {"SSLMODE": "require", "SSLCERT": "certificate", "SSLKEY": str(key)})

    with nullcontext() if is_taken else pytest.raises(SettingsError, match=f"mode {mode:04o}"):
        load(CommandPostgres)


@pytest.mark.parametrize(
    ("given", "variable", "why"),
    [
        ({"SSLMODE": "on"}, "SSLMODE", "input should be 'disable', 'allow', 'prefer', 'require', 'verify-ca' or"),
        ({"SSLMODE": "verify-full"}, "SSLROOTCERT", "verify-full needs the authorities to trust"),
        ({"SSLMODE": "verify-ca"}, "SSLROOTCERT", "verify-ca needs the authorities to trust"),
        ({"SSLROOTCERT": "authority"}, "SSLROOTCERT", "protects nobody while SSLMODE is prefer"),
        ({"SSLMODE": "verify-ca", "SSLROOTCERT": "system"}, "SSLROOTCERT", "system needs SSLMODE verify-full"),
        ({"SSLMODE": "require", "SSLROOTCERT": "nothing"}, "SSLROOTCERT", "cannot be read: No such file"),
        ({"SSLMODE": "require", "SSLROOTCERT": "text"}, "SSLROOTCERT", "not a PEM file of certificates"),
        ({"SSLCERT": "nothing", "SSLKEY": "key"}, "SSLCERT", "cannot be read: No such file"),
        ({"SSLCERT": "text", "SSLKEY": "key"}, "SSLCERT", "not a PEM file of certificates"),
        ({"SSLCERT": "certificate"}, "SSLKEY", "SSLCERT and SSLKEY, go together"),
        ({"SSLKEY": "key"}, "SSLKEY", "SSLCERT and SSLKEY, go together"),
        ({"SSLCERT": "certificate", "SSLKEY": "nothing"}, "SSLKEY", "cannot be read: No such file"),
        ({"SSLCERT": "certificate", "SSLKEY": "other key"}, "SSLKEY", "not SSLCERT's own key"),
        ({"SSLCERT": "certificate", "SSLKEY": "text"}, "SSLKEY", "not SSLCERT's own key"),
        ({"SSLCERT": "shown certificate", "SSLKEY": "shown key"}, "SSLKEY", "others may use the file (mode 0644)"),
    ],
)
def test_tls_that_cannot_work_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, tls: dict[str, str], given: dict[str, str], variable: str, why: str
) -> None:
    give_tls(monkeypatch, tls, given)

    with pytest.raises(SettingsError) as caught:
        load(CommandPostgres)

    [line] = caught.value.lines
    assert line.startswith(f"COMMAND_POSTGRES_{variable} (or POSTGRES_{variable}) is wrong: ")
    assert why in line


@pytest.mark.parametrize("missing", ["KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"])
def test_a_login_that_the_brokers_ask_for_is_wanted_whole(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    whole = {"KAFKA_BOOTSTRAP_SERVERS": "k:1", "KAFKA_SASL_USERNAME": "relay", "KAFKA_SASL_PASSWORD": "x"}
    give(monkeypatch, **whole | {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", missing: ""})

    with pytest.raises(SettingsError, match=f"{missing} is wrong: must be set, since KAFKA_SECURITY_PROTOCOL asks"):
        load(Kafka)

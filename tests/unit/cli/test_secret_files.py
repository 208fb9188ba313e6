"""`muster secrets`: made once, kept, replaced by what is given, and readable by nobody else."""

from pathlib import Path

import pytest

from cli.kafka_files import BROKER_FILE, FORMAT_FILE, LOGINS, PASSWORD, PRINCIPALS
from cli.secret_files import HOLDERS, ISSUER, KAFKA, make_secrets
from local_stack.issuer import rotate
from local_stack.issuer_files import KEY_SET
from local_stack.kafka.principals import SUPERUSER


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret in the environment."""
    for name in HOLDERS:
        monkeypatch.delenv(name, raising=False)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_made_stays_and_all_holders_of_a_secret_have_the_same(tmp_path: Path) -> None:
    assert make_secrets(tmp_path) == [*HOLDERS, BROKER_FILE, FORMAT_FILE, KEY_SET]
    first = _content(tmp_path)

    assert make_secrets(tmp_path) == []
    assert _content(tmp_path) == first
    for name, parts in HOLDERS.items():
        assert len({(tmp_path / part / name).read_text() for part in parts}) == 1
    assert len({(tmp_path / parts[0] / name).read_text() for name, parts in HOLDERS.items()}) == len(HOLDERS)


def test_what_the_environment_gives_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_secrets(tmp_path)
    monkeypatch.setenv("CURSOR_KEYS", "k2:given")

    assert make_secrets(tmp_path) == ["CURSOR_KEYS"]
    assert (tmp_path / "query-api" / "CURSOR_KEYS").read_text() == "k2:given"


def test_it_says_when_it_hands_out_another_list_of_keys(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    rotate(tmp_path / ISSUER)

    assert make_secrets(tmp_path) == [KEY_SET]


def test_a_part_that_comes_later_is_given_the_same(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    one, *others = [tmp_path / part / "POSTGRES_PASSWORD" for part in HOLDERS["POSTGRES_PASSWORD"]]
    one.unlink()

    make_secrets(tmp_path)

    assert one.read_text() == others[0].read_text()


def test_the_broker_is_formatted_with_what_each_part_logs_in_with(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    arguments = (tmp_path / KAFKA / FORMAT_FILE).read_text().splitlines()
    configuration = (tmp_path / KAFKA / BROKER_FILE).read_text()

    for name in (SUPERUSER, *PRINCIPALS):
        assert any(f"[name={name}," in argument for argument in arguments)
    for part, name in LOGINS.items():
        password = (tmp_path / part / PASSWORD).read_text()
        assert f"SCRAM-SHA-512=[name={name},password={password}]" in arguments
    assert configuration.count(f'password="{(tmp_path / "migrate" / PASSWORD).read_text()}"') == 3, "every listener"
    assert "PLAINTEXT," not in configuration.replace("SASL_PLAINTEXT", "")


def test_secrets_and_the_private_key_are_for_their_user_and_the_servers_group_alone(tmp_path: Path) -> None:
    make_secrets(tmp_path)

    open_to_others = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o007}
    assert open_to_others == {"jwks.json"}
    assert (tmp_path / "issuer" / "private.pem").stat().st_mode & 0o777 == 0o600


def test_what_a_kill_left_unreadable_for_a_server_is_opened_to_it(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    left = [tmp_path / "postgres" / "POSTGRES_PASSWORD", tmp_path / KAFKA / BROKER_FILE]
    for file in left:
        file.chmod(0o600)

    assert make_secrets(tmp_path) == []
    assert [file.stat().st_mode & 0o777 for file in left] == [0o640, 0o640]

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from chassis.settings import load
from chassis.settings_error import SettingsError
from query_api.settings import QueryApiSettings, parse_keys

POSTGRES = {
    "QUERY_POSTGRES_USER": "u",
    "QUERY_POSTGRES_PASSWORD": "p",
    "QUERY_POSTGRES_SERVER": "s",
    "QUERY_POSTGRES_DB": "d",
}


def key(fill: int, length: int = 32) -> str:
    return base64.urlsafe_b64encode(bytes([fill]) * length).rstrip(b"=").decode()


def settings(**values: Any) -> QueryApiSettings:
    given: dict[str, Any] = {**POSTGRES, **values}
    return QueryApiSettings(_env_file=None, **given)


def test_keys_keep_their_order_padded_or_not() -> None:
    ring = settings(CURSOR_KEYS=f"new:{key(1)}, old:{key(2)}=").cursor_key_ring

    assert list(ring.items()) == [("new", b"\1" * 32), ("old", b"\2" * 32)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "pair 1 must be id:key"),
        (key(1), "pair 1 must be id:key"),
        (f"a:{key(1)},", "pair 2 must be id:key"),
        (f"a b:{key(1)}", "pair 1 must be id:key"),
        (f"a:{key(1)},a:{key(2)}", "comes twice"),
        (f"a:{key(1, 31)}", "32 random bytes"),
        ("a:!!!", "32 random bytes"),
    ],
)
def test_refuses_keys_that_cannot_be_used(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_keys(text)


def test_a_bad_key_is_not_repeated_in_the_complaint() -> None:
    secret = key(7, 31)

    with pytest.raises(ValidationError) as raised:
        settings(CURSOR_KEYS=f"a:{secret}")

    assert secret not in str(raised.value.errors(include_input=False))


def test_missing_variables_are_one_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("POSTGRES_USER", "QUERY_POSTGRES_USER", "CURSOR_KEYS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in POSTGRES.items():
        if name != "QUERY_POSTGRES_USER":
            monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as raised:
        load(QueryApiSettings)

    assert [line.split(" ", 1)[0] for line in raised.value.lines] == ["QUERY_POSTGRES_USER", "CURSOR_KEYS"]


def test_keys_are_not_printed() -> None:
    assert key(9) not in repr(settings(CURSOR_KEYS=f"a:{key(9)}"))

"""Which token a command sends, and where: the shell's anywhere, the local stack's to the stack alone."""

from datetime import timedelta
from pathlib import Path

import httpx
import jwt
import pytest

from chassis.clock import utc_now
from cli.access import bearer
from cli.access.bearer import Bearer, NoTokenError
from cli.access.scopes import SCOPES
from tests.unit.cli.access.conftest import RunStack

COMMAND, QUERY = "http://127.0.0.1:8000", "http://127.0.0.1:8001"


def sent_to(address: str, sender: Bearer | None = None) -> str | None:
    """The Authorization header of a request to that address."""
    request = next((sender or Bearer()).auth_flow(httpx.Request("GET", f"{address}/users")))
    header: str | None = request.headers.get("Authorization")
    return header


def test_the_shells_token_goes_to_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_TOKEN", "a.b.c")

    assert sent_to("https://users.example.com") == "Bearer a.b.c"


def test_the_file_of_a_token_is_read_again_for_each_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("MUSTER_TOKEN_FILE", str(file))
    sender = Bearer()
    file.write_text("first\n")
    first = sent_to(COMMAND, sender)
    file.write_text("second\n")

    assert (first, sent_to(COMMAND, sender)) == ("Bearer first", "Bearer second")


def test_a_token_goes_before_a_file_and_both_before_the_stacks(
    monkeypatch: pytest.MonkeyPatch, folder: Path, run_stack: RunStack
) -> None:
    run_stack()
    (folder / "token").write_text("of-the-file")
    monkeypatch.setenv("MUSTER_TOKEN_FILE", str(folder / "token"))
    of_the_file = sent_to(COMMAND)
    monkeypatch.setenv("MUSTER_TOKEN", "of-the-shell")

    assert (of_the_file, sent_to(COMMAND)) == ("Bearer of-the-file", "Bearer of-the-shell")


@pytest.mark.parametrize("address", [COMMAND, QUERY])
def test_the_stacks_own_token_is_an_operators_for_whom_the_stack_says(run_stack: RunStack, address: str) -> None:
    run_stack(AUTH_AUDIENCE="users")

    claims = jwt.decode(str(sent_to(address)).removeprefix("Bearer "), options={"verify_signature": False})

    assert claims["scope"].split() == list(SCOPES)
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("muster-local", "users", "operator")


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8002", "http://127.0.0.2:8000", "https://127.0.0.1:8000", "http://users.example.com:8000"],
)
def test_the_stacks_token_goes_nowhere_else_whatever_addresses_it_gives_to_others(
    run_stack: RunStack, address: str
) -> None:
    run_stack(PUBLIC_COMMAND_URL=address, PUBLIC_QUERY_URL=address)

    assert sent_to(address) is None


@pytest.mark.parametrize("keys", ["/etc/muster/jwks.json", ""])
def test_a_stack_that_trusts_another_issuer_gets_no_token_of_its_own(run_stack: RunStack, keys: str) -> None:
    run_stack(AUTH_JWKS_FILE=keys)

    assert sent_to(COMMAND) is None


def test_without_a_stack_no_token_is_sent() -> None:
    assert sent_to(COMMAND) is None


def test_an_own_token_is_used_until_it_is_about_to_end(run_stack: RunStack, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stack()
    now = [utc_now()]
    monkeypatch.setattr(bearer, "utc_now", lambda: now[0])
    sender = Bearer()
    first = sent_to(COMMAND, sender)
    now[0] += timedelta(minutes=8)
    same = sent_to(COMMAND, sender)
    now[0] += timedelta(minutes=2)

    assert first == same
    assert first != sent_to(COMMAND, sender)


def test_a_stacks_issuer_that_is_damaged_is_told(folder: Path, run_stack: RunStack) -> None:
    run_stack()
    (folder / "issuer" / "private.pem").write_text("damaged")

    with pytest.raises(NoTokenError, match="The local stack has no token"):
        sent_to(COMMAND)

"""Whoever calls the audit can tell a finding from a network that is away."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.audit import ROOT, audit


def tool(folder: Path, *, found: str, code: int) -> Path:
    """What stands for pip-audit: it writes to the file that it is told, and notes how it was called."""
    script, writes = folder / "pip-audit", f'echo {found} > "$2"' if found else ":"
    script.write_text(
        f'#!/bin/sh\necho "$@" > {folder}/called\nwhile [ "$1" != --output ]; do shift; done\n{writes}\nexit {code}\n',
        encoding="utf-8",
    )
    script.chmod(0o700)
    return script


@pytest.mark.parametrize(
    ("found", "code", "exit_code", "out", "err"),
    [
        ("", 0, 0, "", ""),
        ("GHSA-1", 1, 1, "GHSA-1\n", ""),
        ("", 1, 2, "", "NOTHING WAS AUDITED"),
        ("", 2, 2, "", "NOTHING WAS AUDITED"),
    ],
    ids=["nothing known", "a finding", "no advisories", "wrong use"],
)
def test_the_exit_code_tells_a_finding_from_a_failure(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    *,
    found: str,
    code: int,
    exit_code: int,
    out: str,
    err: str,
) -> None:
    assert audit([], tool=tool(tmp_path, found=found, code=code)) == exit_code
    printed = capfd.readouterr()
    assert printed.out == out
    assert printed.err.startswith(err)
    assert bool(printed.err) == bool(err)


def test_every_lock_is_audited_and_a_package_that_cannot_be_is_a_failure(tmp_path: Path) -> None:
    audit(["--desc"], tool=tool(tmp_path, found="", code=0))
    called = (tmp_path / "called").read_text().split()

    assert {"--strict", "--require-hashes", "--desc"} <= set(called)
    locks = {str(path) for path in (ROOT / "requirements").glob("*.txt")}
    assert {after for before, after in pairwise(called) if before == "-r"} == locks


def test_make_calls_it() -> None:
    recipe = re.search(r"^audit: .*\n(\t.*\n)+", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert recipe
    assert "-m deploy.audit" in recipe[0]

"""The AsyncAPI document before AsyncAPI's own parser, a program for Node."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.events.command import asyncapi
from tests.node_packages import FOLDER, PATH, require

PROGRAM = """
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
const { Parser } = createRequire(process.cwd() + '/')('@asyncapi/parser')
const { document, diagnostics } = await new Parser().parse(readFileSync(0, 'utf8'))
console.log(JSON.stringify({ accepted: document !== undefined, severities: diagnostics.map((each) => each.severity) }))
"""
#: Of Spectral, which the parser uses.
ERROR = 0


def _parsed(document: dict[str, Any]) -> dict[str, Any]:
    command = ("node", "--input-type=module", "-e", PROGRAM)
    done = subprocess.run(
        command, cwd=FOLDER, input=json.dumps(document), env=os.environ | {"PATH": PATH},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What `muster events asyncapi` prints."""
    require("@asyncapi/parser")
    monkeypatch.chdir(tmp_path)
    asyncapi()
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_the_official_parser_accepts_it(document: dict[str, Any]) -> None:
    parsed = _parsed(document)

    assert parsed["accepted"]
    assert ERROR not in parsed["severities"]


def test_the_official_parser_refuses_what_is_none(document: dict[str, Any]) -> None:
    document["operations"]["publishUserEvents"]["channel"]["$ref"] = "#/channels/other"

    assert not _parsed(document)["accepted"]

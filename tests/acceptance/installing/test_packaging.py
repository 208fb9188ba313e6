"""The wheel, installed into a clean environment from the lock file, is all Muster needs, and its names are ours."""

import json
from pathlib import Path

from tests.acceptance.installing.installation import ROOT, run

PACKAGES = [
    "chassis",
    "cli",
    "command_api",
    "event_api",
    "events",
    "local_stack",
    "outbox",
    "projectors",
    "query_api",
    "read_model",
]


def test_the_command_works(service: Path, tmp_path: Path) -> None:
    assert "up" in run(service / "muster", "--help", folder=tmp_path)


def test_every_package_is_there_and_is_ours(service: Path, tmp_path: Path) -> None:
    """A distribution named Events installs a top-level `events` too: none may have come along."""
    program = (
        "import importlib, json\nfrom importlib.metadata import packages_distributions\n"
        f"names = {PACKAGES!r}\n"
        "for name in names:\n    importlib.import_module(name)\n"
        "owners = packages_distributions()\n"
        "print(json.dumps({name: owners[name] for name in names}))"
    )

    owners = json.loads(run(service / "python", "-c", program, folder=tmp_path))

    assert owners == {name: ["muster"] for name in PACKAGES}


def test_the_migrations_and_pinned_jars_came_along(service: Path, tmp_path: Path) -> None:
    program = (
        "from importlib.resources import files\n"
        "print(*[item.name for place in ('command_api', 'projectors')"
        " for item in (files(place) / 'migrations' / 'versions').iterdir()])\n"
        "print((files('local_stack') / 'kafka' / 'jars.txt').read_text()[:100])"
    )

    printed = run(service / "python", "-c", program, folder=tmp_path)

    assert printed.count("0001_") == 2
    assert printed.strip()


def test_no_tests_and_no_benchmarks_came_along(service: Path, tmp_path: Path) -> None:
    program = "import importlib.util as u; print([n for n in ('tests', 'benchmarks') if u.find_spec(n)])"

    assert run(service / "python", "-c", program, folder=tmp_path).strip() == "[]"


def test_the_lock_files_name_no_host_and_hash_everything() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]

        assert "://" not in text, lock.name
        assert pinned, lock.name
        assert all("==" in line and line.endswith("\\") for line in pinned), lock.name


def test_the_installed_apis_serve_every_page_that_needs_a_file(service: Path, tmp_path: Path) -> None:
    program = """
import asyncio, json
import httpx
from command_api.app import create_app as command
from command_api.settings import CommandApiSettings
from query_api.app import create_app as query
from query_api.settings import QueryApiSettings

PAGES = ["/docs", "/redoc", "/openapi.json", "/problems/", "/problems/validation-error", "/health"]
SCHEMA = "/schemas/muster.user.registered.v1.json"

async def main():
    answers = {}
    apps = {
        "command": command(CommandApiSettings.model_construct(public_query_url="http://query", auth_disabled=True)),
        "query": query(QueryApiSettings.model_construct(auth_disabled=True)),
    }
    for name, app in apps.items():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            for page in PAGES + ([SCHEMA] if name == "command" else []):
                answers[f"{name} {page}"] = (await http.get(page)).status_code
            page = (await http.get("/docs")).text
            for asset in [word for word in page.split('"') if word.endswith((".js", ".css", ".png"))]:
                answers[f"{name} {asset}"] = (await http.get(asset)).status_code
    print(json.dumps(answers))

asyncio.run(main())
"""

    answers = json.loads(run(service / "python", "-c", program, folder=tmp_path).splitlines()[-1])

    assert len(answers) > 15
    assert {page: status for page, status in answers.items() if status != 200} == {}

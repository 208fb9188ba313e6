"""Downloads from a Maven repository of our own: a local HTTP server that can misbehave."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local_stack.errors import DownloadError
from local_stack.kafka import jars as kafka_jars
from local_stack.kafka.jars import FETCH_ATTEMPTS, REPOSITORY_VARIABLE, Jar, fetch_jars
from local_stack.ports import LOCALHOST, free_port

CONTENT = {"/org/example/one/1.0/one-1.0.jar": b"one" * 5000, "/org/example/two/2.0/two-2.0.jar": b"two"}
ONE = Jar("org.example:one:1.0", 15000, hashlib.sha256(b"one" * 5000).hexdigest())
TWO = Jar("org.example:two:2.0", 3, hashlib.sha256(b"two").hexdigest())


class Repository(ThreadingHTTPServer):
    """Counts requests for jars; `cut_off` ends so many answers half-way."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOCALHOST, 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.cut_off = 0

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        content = CONTENT.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.server.asked[self.path] += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut_off = self.server.cut_off > 0
        self.server.cut_off -= cut_off
        self.wfile.write(content[: len(content) // 2] if cut_off else content)

    def log_message(self, *_: object) -> None:
        """Tests need no access log."""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with Repository() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv(REPOSITORY_VARIABLE, made.url)
        monkeypatch.setattr(kafka_jars, "BACK_OFF_SECONDS", 0.01)
        yield made
        made.shutdown()
        thread.join()


async def test_fetches_what_is_missing_and_nothing_twice(repository: Repository, folder: Path) -> None:
    arrived: list[int] = []

    first = await fetch_jars([ONE, TWO], folder / "jars", arrived.append)
    second = await fetch_jars([ONE, TWO], folder / "jars", arrived.append)

    assert first == second
    assert [path.read_bytes() for path in first] == list(CONTENT.values())
    assert set(repository.asked.values()) == {1}
    assert sum(arrived) == ONE.size + TWO.size


async def test_repeats_a_download_that_was_cut_off(repository: Repository, folder: Path) -> None:
    repository.cut_off = 1
    arrived: list[int] = []

    [path] = await fetch_jars([ONE], folder, arrived.append)

    assert path.read_bytes() == b"one" * 5000
    assert repository.asked.total() == 2
    assert sum(arrived) == ONE.size


async def test_a_wrong_checksum_is_retried_then_explained_and_never_stored(
    repository: Repository, folder: Path
) -> None:
    forged = Jar(ONE.coordinate, ONE.size, "0" * 64)

    with pytest.raises(DownloadError, match="arrived with SHA-256"):
        await fetch_jars([forged], folder)

    assert repository.asked.total() == FETCH_ATTEMPTS
    assert files_in(folder) == []


async def test_keeps_what_arrived_before_another_jar_failed(repository: Repository, folder: Path) -> None:
    absent = Jar("org.example:absent:1.0", 1, "0" * 64)

    with pytest.raises(DownloadError, match=r"org\.example:absent:1\.0"):
        await fetch_jars([ONE, absent], folder)
    await fetch_jars([ONE], folder)

    assert repository.asked.total() == 1


async def test_says_what_to_do_when_there_is_no_network(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REPOSITORY_VARIABLE, f"http://{LOCALHOST}:{free_port()}")

    with pytest.raises(DownloadError) as refusal:
        await fetch_jars([ONE], folder)

    assert "needs the network" in str(refusal.value)
    assert REPOSITORY_VARIABLE in str(refusal.value)
    assert files_in(folder) == []


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]

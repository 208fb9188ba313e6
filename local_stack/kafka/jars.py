"""Apache Kafka's jars: exactly those of jars.txt, fetched once and verified.

The pinned list makes every start the same and needs no resolution: jgo (pure Python) fetches each file by its
coordinate. Only a file with the pinned SHA-256 enters the cache, by an atomic rename. So an interrupted download is
simply repeated, and a file in the cache is not checked again.
"""

import asyncio
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_stack.cache import CACHE_VARIABLE, cache_folder
from local_stack.errors import DownloadError, LocalStackError

KAFKA_VERSION = "4.3.1"

PINS = Path(__file__).with_name("jars.txt")

# Names another Maven repository (a company's mirror) by its URL; without it jgo's default is asked.
REPOSITORY_VARIABLE = "MUSTER_MAVEN_REPOSITORY"

FETCH_ATTEMPTS = 3  # enough for a dropped connection; more bring no network back
BACK_OFF_SECONDS = 0.5  # before the second attempt, doubled before the third
RECEIVE_SECONDS = 20  # of silence on a connection
AT_ONCE = 4  # parallel downloads: enough to hide round trips, few enough for any server
HASHED_BYTES = 1024 * 1024  # read at once while hashing

OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file."""

    coordinate: str  # group:artifact:version
    size: int  # bytes
    sha256: str

    @property
    def filename(self) -> str:
        """Its name in the cache, unique because the group is part of it."""
        return f"{self.coordinate.replace(':', '-')}.jar"


class _StoppedError(Exception):
    """The caller has gone; raised in a progress report, it ends the download."""


def pinned_jars(pins: Path = PINS) -> list[Jar]:
    """Return the pinned list, in class path order."""
    lines = pins.read_text(encoding="ascii").splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return [Jar(coordinate, int(size), sha256) for coordinate, size, sha256 in rows]


def jar_folder() -> Path:
    """Return the cache folder of this Kafka version's jars."""
    return cache_folder() / f"kafka-{KAFKA_VERSION}"


def missing_jars(jars: list[Jar], folder: Path) -> list[Jar]:
    """Return those that have not entered the cache yet."""
    return [jar for jar in jars if not (folder / jar.filename).is_file()]


async def fetch_jars(jars: list[Jar], folder: Path, on_progress: OnProgress | None = None) -> list[Path]:
    """Fetch those that are missing in the folder; return all paths, in the order given.

    `on_progress` is called from other threads with the bytes that have arrived since its last call; a failed attempt
    takes its bytes off again. Cancelling ends the downloads.

    Raises:
        DownloadError: one of them could not be fetched, or was not what is pinned, in `FETCH_ATTEMPTS` attempts.
    """
    stopped = threading.Event()

    def report(size: int) -> None:
        if stopped.is_set():
            raise _StoppedError
        if on_progress:
            on_progress(size)

    if missing := missing_jars(jars, folder):
        try:
            await asyncio.to_thread(_fetch_all, missing, folder, report)
        finally:
            stopped.set()
    return [folder / jar.filename for jar in jars]


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASHED_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch_all(jars: list[Jar], folder: Path, report: OnProgress) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"The cache folder {folder} cannot be made ({error.strerror}): name another with {CACHE_VARIABLE}."
        ) from error
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="jars")
    try:
        largest_first = sorted(jars, key=lambda jar: -jar.size)
        for fetched in [pool.submit(_fetch_patiently, jar, folder, report) for jar in largest_first]:
            fetched.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch_patiently(jar: Jar, folder: Path, report: OnProgress) -> None:
    for attempt in range(1, FETCH_ATTEMPTS + 1):
        try:
            _fetch(jar, folder, report)
        except DownloadError:
            if attempt == FETCH_ATTEMPTS:
                raise
            time.sleep(BACK_OFF_SECONDS * 2 ** (attempt - 1))
        else:
            return


def _fetch(jar: Jar, folder: Path, report: OnProgress) -> None:
    """Fetch one jar beside its place, verify it and move it there."""
    arrived = _Arrived(report)
    try:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as staging:
            path = _download(jar, Path(staging), arrived)
            _verify(jar, path)
            path.replace(folder / jar.filename)
    except (DownloadError, OSError) as error:
        arrived.take_back()
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"{jar.coordinate} could not be stored in {folder}: {error.strerror}.") from error


def _download(jar: Jar, staging: Path, arrived: "_Arrived") -> Path:
    try:
        import requests  # noqa: PLC0415 - comes with jgo, a package of the `local` extra
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - as above
    except ImportError as error:
        raise LocalStackError("jgo, which fetches Kafka, is not installed: pip install 'muster[local]'.") from error
    mirror = os.environ.get(REPOSITORY_VARIABLE)
    context = MavenContext(
        resolver=PythonResolver(progress_callback=arrived.of_file),
        repo_cache=staging,
        remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
        timeout=RECEIVE_SECONDS,
    )
    try:
        path: Path = context.create_dependency(jar.coordinate).artifact.resolve()
    except (requests.RequestException, RuntimeError) as error:
        refusal = DownloadError(_unreachable(jar, error))
    else:
        return path
    raise refusal  # without its cause, whose frames would keep the connection that jgo leaves open after a failure


class _Arrived:
    """Counts what has arrived of one file, so that a failed attempt can be taken off the total."""

    def __init__(self, report: OnProgress) -> None:
        self._report = report
        self._bytes = 0

    @contextmanager
    def of_file(self, _filename: str, _size: int) -> Iterator[OnProgress]:
        yield self._add

    def _add(self, size: int) -> None:
        self._bytes += size
        self._report(size)

    def take_back(self) -> None:
        self._report(-self._bytes)


def _verify(jar: Jar, path: Path) -> None:
    actual = sha256_of(path)
    if actual != jar.sha256:
        raise DownloadError(
            f"{jar.coordinate} arrived with SHA-256 {actual[:12]}… instead of {jar.sha256[:12]}…, "
            f"{FETCH_ATTEMPTS} times: the download was cut off or changed on its way, by a proxy for example. "
            "It was not used."
        )


def _unreachable(jar: Jar, error: Exception) -> str:
    reason = str(error).split(":", maxsplit=1)[0][:200]  # characters; the rest repeats addresses
    return (
        f"{jar.coordinate} could not be fetched, {FETCH_ATTEMPTS} times ({type(error).__name__}: {reason}). "
        f"The first start needs the network: check it (and HTTPS_PROXY), or name a Maven mirror with "
        f"{REPOSITORY_VARIABLE}. What has arrived is kept."
    )

"""Logs and metrics: JSON lines with request ids on standard error, Prometheus figures for `/metrics`.

A log event is a fixed name with bound values, never a built sentence, so that it can be searched for. Each line
that is written while an HTTP request is served has the request's id. A line that cannot be written stops nobody:
`muster_log_lines_lost_total` counts it.

Errors are told without the values in their messages, which may be people's data (last_words.py), caught or not.
"""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic_core import PydanticSerializationError, to_json

from chassis.last_words import on_crash, without_values

#: The id of the request (or batch) being worked on, for logs, problems and the event's correlation id.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: Libraries whose INFO lines repeat per request or per poll.
_QUIET = ("aiokafka", "httpx", "httpcore", "asyncio", "uvicorn.access", "faststream")

#: Libraries that try again and again by themselves, and log each try; our own lines tell of the outage.
_RETRYING = ("aiokafka", "asyncpg", "faststream")
#: A line of theirs is left out while it came less than this ago.
QUIET_SECONDS = 60.0

_log = structlog.get_logger("telemetry")

_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_LOST = Counter("muster_log_lines_lost_total", "Log lines that could not be written")
_REPEATED = Counter("muster_log_lines_repeated_total", "Lines of libraries left out as repeated", ["library"])
_EXPIRES = Gauge(
    "muster_certificate_expires_timestamp_seconds",
    "When the certificate in a variable's file expires, in seconds since 1970; 0 where none can be read.",
    ["variable"],
)
#: Variables that end so name authorities.
_AUTHORITIES = ("_SSLROOTCERT", "_SSL_CAFILE")


def configure_logging(process: str, level: str) -> None:
    """Send structlog's and the standard library's records to standard error, one JSON object a line."""
    about = _About(process)
    rendered: list[structlog.typing.Processor] = [structlog.processors.ExceptionRenderer(_without_values), _one_line]
    # Our own lines bypass the standard library's records, which would cost a tenth of a command (one line each).
    structlog.configure(
        processors=[about, *rendered],
        logger_factory=_LineLogger,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _first_line, about],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    on_crash(_log_crash)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class Repeats(logging.Filter):
    """Lets a line of a library that retries through once, and says how often it came once it has stopped.

    Lines are the same that one place in the library's code writes, whatever is filled in.
    """

    def __init__(self) -> None:
        super().__init__()
        #: The time, by place, at which its line came last, and how many have been left out since.
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        library = record.name.partition(".")[0]
        if library not in _RETRYING:
            return True
        place, now = (record.pathname, record.lineno), time.monotonic()
        last, left_out = self._seen.get(place, (-QUIET_SECONDS, 0))
        if now - last >= QUIET_SECONDS:
            self._seen[place] = now, 0
            return True
        self._seen[place] = now, left_out + 1
        _REPEATED.labels(library).inc()
        if not left_out:
            self._summarise_later(record, place)
        return False

    def _summarise_later(self, record: logging.LogRecord, place: tuple[str, int]) -> None:
        # The metric alone tells in a short command, which has no loop.
        with suppress(RuntimeError):
            asyncio.get_running_loop().call_later(QUIET_SECONDS, self._summarise, record, place)

    def _summarise(self, record: logging.LogRecord, place: tuple[str, int]) -> None:
        last, left_out = self._seen[place]
        if time.monotonic() - last < QUIET_SECONDS:
            self._summarise_later(record, place)
            return
        self._seen[place] = last, 0
        _log.warning("library.lines_repeated", library=record.name, line=str(record.msg), times=left_out)


#: Local variables are left out: they hold passwords and people's data.
_transform = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def _without_values(exc_info: structlog.typing.ExcInfo) -> list[dict[str, Any]]:
    """The errors and where they were raised; of each message what may be told."""
    return [_pruned(error) for error in _transform(exc_info)]


def _pruned(error: dict[str, Any]) -> dict[str, Any]:
    inner = [[_pruned(each) for each in group] for group in error["exceptions"]]
    return {**error, "exc_notes": [], "exceptions": inner, "exc_value": without_values(error["exc_value"])}


def _first_line(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep only a library's first line: asyncio adds the failed task and the values in its error.

    Its first line has the arguments of a callback that failed.
    """
    first, _, _ = str(event["event"]).partition("\n")
    event["event"] = without_values(first) if event["logger"] == "asyncio" else first
    return event


def _log_crash(event: str, error: BaseException) -> None:
    structlog.get_logger("process").critical(event, exc_info=error)


class _LineLogger:
    """Writes a rendered line to standard error, whatever its level; has the name that `get_logger` was given."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        try:
            sys.stderr.write(line + "\n")
        except (OSError, ValueError):
            # A full disk, a reader that went away, a closed file. A command that is committed must not be answered with
            # an error for that.
            _LOST.inc()

    debug = info = warning = error = critical = exception = msg


class _About:
    """Adds to each line the process, the time, the level and the request's id.

    structlog has five processors for this, which took a twentieth of a command.
    """

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = self._process
        event["level"] = "error" if method == "exception" else method
        event.setdefault("logger", getattr(logger, "name", ""))
        identifier = request_id.get()
        if identifier:
            event.setdefault("request_id", identifier)
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        event["timestamp"] = f"{_second(seconds)}.{nanoseconds // 1000:06}Z"
        return event


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    """The first part of an RFC 3339 time. It is kept for the next line: formatting it takes as long as all the rest."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _one_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """JSON, five times as fast as the standard library writes it; that one is left what only it can write."""
    try:
        return to_json(event, fallback=repr, inf_nan_mode="constants").decode()
    except PydanticSerializationError:  # half a surrogate pair, or bytes that are no text
        return json.dumps(event, default=repr)


def render_metrics(certificates: Mapping[str, str]) -> tuple[bytes, str]:
    """The metrics of this service in Prometheus text form, over all its worker processes, and their content type.

    The files of `certificates`, by variable, are read anew each time, since they are renewed while the process runs.
    """
    for variable, file in certificates.items():
        _EXPIRES.labels(variable).set(_expires(Path(file), is_of_authorities=variable.endswith(_AUTHORITIES)))
    registry = REGISTRY
    if os.environ.get(_METRICS_FOLDER):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        # Workers do not tell of it: whoever serves the metrics of all does.
        registry.register(_EXPIRES)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _expires(file: Path, *, is_of_authorities: bool) -> float:
    """When the first certificate of a file does, whose key we have; of authorities the last, for they overlap."""
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - few processes have certificates

    try:
        found = [each.not_valid_after_utc.timestamp() for each in load_pem_x509_certificates(file.read_bytes())]
    except (OSError, ValueError):
        return 0.0
    return max(found) if is_of_authorities else found[0]

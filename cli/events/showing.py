"""Shows a record for `muster events`: as a line, a JSON object, or everything there is to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import ConsumerRecord
from rich.console import Console
from rich.text import Text

from cli.terminal.output import as_text, legible
from events.catalogue import short_name
from events.envelope import EnvelopeError, read_envelope

#: Colours by short name; what is no type of ours has the last.
_COLOURS: Final = {
    "registered": "green",
    "reactivated": "green",
    "email_changed": "cyan",
    "email_verified": "cyan",
    "username_changed": "cyan",
    "profile_changed": "cyan",
    "password_changed": "magenta",
    "deactivated": "yellow",
    "erased": "bold red",
    "snapshot": "blue",
}
_UNKNOWN: Final = "bold yellow"


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the caller; rich would end with 1, as if something had failed."""
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


def terminal() -> Console:
    """Standard output; colours are for terminals alone. A reader who goes is a BrokenPipeError."""
    return _Terminal(highlight=False, soft_wrap=True)


def as_line(record: ConsumerRecord, now: float) -> Text:
    """A line on what happened to whom, where and when, by whom, and how long before `now`, in seconds since 1970."""
    line = Text.assemble((_published(record), "dim"), f"  {record.partition}:{record.offset}  ")
    try:
        envelope = read_envelope(record.headers)
    except EnvelopeError as error:
        return line.append(legible(f"no event of ours: {error}"), "red")
    name = short_name(envelope.type)
    line.append(legible(name), _COLOURS.get(name, _UNKNOWN))
    line.append(f"  {envelope.subject_id}  version {envelope.version}")
    line.append(f"  by {envelope.actor}" if envelope.actor else "")
    line.append(f" for {envelope.on_behalf_of}" if envelope.on_behalf_of else "")
    return line.append(f"  lag {_span(_lag(record, now))}", "dim")


def as_object(record: ConsumerRecord, now: float) -> dict[str, Any]:
    """The record's place, when it was published and how many seconds ago, its headers and its value."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    return {
        "partition": record.partition,
        "offset": record.offset,
        "published": _published(record),
        "lag_seconds": round(_lag(record, now), 3),
        "headers": headers,
        "data": _data(record.value),
    }


def show_record(console: Console, record: ConsumerRecord) -> None:
    """All of it, for people."""
    where = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "published": _published(record),
        "key": "none" if record.key is None else record.key.decode(errors="backslashreplace"),
    }
    headers = [(name, as_text(value) or "") for name, value in record.headers]
    width = max(len(name) for name, _ in [*where.items(), *headers])
    for name, value in [*where.items(), *headers]:
        console.print(Text.assemble((f"{legible(name):{width}}  ", "dim"), legible(value)))
    console.print()
    if record.value is None:
        console.print("no value: a tombstone", style="dim")
    else:
        text = json.dumps(_data(record.value), ensure_ascii=False, indent=2)
        console.print(Text("\n".join(map(legible, text.split("\n")))))


def _published(record: ConsumerRecord) -> str:
    time_ = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return time_.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lag(record: ConsumerRecord, now: float) -> float:
    """Seconds since it was published; the broker's clock may be ahead of ours."""
    published: int = record.timestamp
    return max(0.0, now - published / 1000)


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _data(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return {"undecodable": value.decode(errors="replace")}

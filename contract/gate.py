"""The gate: whether today's code keeps what the last release promised its subscribers.

`contract/released` is what the last release published: the sums of its corpus, its schemas of values and headers, and
when types end.
`make contract-release` writes it when a version is released, and nothing else does. It is a copy, not a tag of git, so
that the gate gives the same answer in any checkout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import jsonschema_rs

from contract.corpus import SUMS, CorpusRecord, changed_files, read_corpus, read_sums
from contract.rules import Schema, changed, changed_types
from events import Unknown
from events.asyncapi import header_schema
from events.catalogue import Catalogue, InvalidEventError, UnknownEventError
from events.decoding import Decoder
from events.envelope import read_envelope
from events.schemas import event_schemas
from events.user_events import USER_EVENTS

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE.parent / "events" / "corpus"
RELEASED: Final = HERE / "released"
SUNSETS: Final = HERE / "sunsets.json"


@dataclass(frozen=True, slots=True)
class Promise:
    """What a release promises: the schema of each type's value and headers, the sums of its corpus, and sunsets."""

    values: Mapping[str, Schema]
    headers: Mapping[str, Schema]
    sums: dict[str, str] = field(default_factory=dict)
    sunsets: Mapping[str, date] = field(default_factory=dict)


def promise_of(catalogue: Catalogue[Any, Any], sums: dict[str, str] | None = None) -> Promise:
    """What a catalogue promises."""
    headers = {type_: header_schema(catalogue, type_) for type_ in catalogue.types()}
    return Promise(event_schemas(catalogue), headers, sums or {})


def read_released(folder: Path = RELEASED) -> Promise:
    """What the last release promised."""
    values = {path.stem: json.loads(path.read_bytes()) for path in sorted((folder / "schemas").glob("*.json"))}
    headers = json.loads((folder / "headers.json").read_bytes())
    return Promise(values, headers, read_sums(folder / SUMS), read_sunsets(folder / SUNSETS.name))


def read_sunsets(path: Path = SUNSETS) -> dict[str, date]:
    """The day on which each type ends that is to end."""
    return {type_: date.fromisoformat(day) for type_, day in json.loads(path.read_bytes()).items()}


def release(folder: Path = RELEASED) -> None:
    """Note what is promised now as that of the last release."""
    promise = promise_of(USER_EVENTS)
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    for path in (folder / "schemas").glob("*.json"):
        path.unlink()
    for type_, schema in promise.values.items():
        (folder / "schemas" / f"{type_}.json").write_text(_json(schema), encoding="utf-8")
    (folder / "headers.json").write_text(_json(promise.headers), encoding="utf-8")
    (folder / SUMS).write_bytes((CORPUS / SUMS).read_bytes())
    (folder / SUNSETS.name).write_bytes(SUNSETS.read_bytes())


def broken_promises(today: date) -> list[str]:
    """What breaks the contract now, a sentence each."""
    released, corpus = read_released(), read_corpus(CORPUS)
    return [
        *changed_files(CORPUS, released.sums),
        *broken(released, USER_EVENTS, corpus, sunsets=read_sunsets(), today=today),
    ]


def broken(
    released: Promise,
    catalogue: Catalogue[Any, Any],
    corpus: list[CorpusRecord],
    *,
    sunsets: Mapping[str, date],
    today: date,
) -> Iterator[str]:
    """What a catalogue breaks of a release's promise."""
    current = promise_of(catalogue)
    yield from changed_types(released.values, current.values, announced=released.sunsets, sunsets=sunsets, today=today)
    for type_ in released.headers.keys() & current.headers.keys():
        yield from changed(released.headers[type_], current.headers[type_], at=f"headers of {type_}")
    yield from _without_records(catalogue, corpus)
    decoder = Decoder(catalogue)
    for record in corpus:
        found = decoder.read(record.key, record.headers, record.value)
        if isinstance(found, Unknown):
            yield f"{record.name}: today's kit cannot read it ({found.reason}): write an upcaster to the newest version"
        elif record.value is not None:
            yield from _unlike(record, record.value, catalogue, released)


def _without_records(catalogue: Catalogue[Any, Any], corpus: list[CorpusRecord]) -> Iterator[str]:
    there = {record.type for record in corpus}
    classes = catalogue.classes.values()
    ever = {f"{each.name}.v{version}" for each in classes for version in range(1, each.version + 1)}
    for type_ in sorted((ever | set(catalogue.types())) - there):
        yield f"{type_}: the corpus has no record of it: add one to events/corpus, and its line to {SUMS}"


def _unlike(record: CorpusRecord, value: bytes, catalogue: Catalogue[Any, Any], released: Promise) -> Iterator[str]:
    """Where the record cannot be read whole, or is written otherwise today than the last release described it."""
    try:
        event = catalogue.decode(record.type, value)
    except (UnknownEventError, InvalidEventError) as error:
        yield (
            f"{record.name}: today's projectors cannot read it, and such records are on logs ({error}): take back what"
            " refuses it, or publish a new version of the type beside this one (docs/how-to/change-an-event.md)"
        )
        return
    values, headers = released.values.get(record.type), released.headers.get(record.type)
    if values is None or headers is None or not catalogue.is_newest(record.type):
        return
    data = json.loads(catalogue.encode(event) or b"null")
    written = {name: content.decode() for name, content in read_envelope(record.headers).headers()}
    for what, schema, instance in (("value", values, data), ("headers", headers, written)):
        for wrong in jsonschema_rs.Draft202012Validator(dict(schema), validate_formats=True).iter_errors(instance):
            yield f"{record.name}: its {what}, as written today, break the released schema: {wrong.message}"


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

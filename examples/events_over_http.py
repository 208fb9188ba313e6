"""Keeps every event that comes over HTTP, once, whatever is killed. See docs/how-to/read-events-over-http.md."""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing

import httpx

#: The event API says something every 15 s; a connection that is silent for longer is dead.
SILENCE_SECONDS = 45.0
TABLES = """
CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, type TEXT, user_id TEXT, version INTEGER, changed TEXT);
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), position TEXT)
"""


def lines(parts: Iterable[bytes]) -> Iterator[str]:
    """Lines as the stream has them: httpx's iter_lines would also end one at a character within somebody's name."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in whole)


def messages(stream: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """The type, the data and the position after it of each event; a position may come without an event."""
    type_ = data = position = ""
    for line in stream:
        name, _, value = line.partition(": ")
        match name:
            case "event":
                type_ = value
            case "data":
                data = value
            case "id":
                position = value
            case "" if not line:
                yield type_, data, position
                type_ = data = ""


def write(database: sqlite3.Connection, type_: str, data: str, position: str) -> None:
    """The event and the position in one transaction: whatever is killed, each event is written once."""
    with database as transaction:
        if type_ == "caught-up":
            print("all that was there has come", flush=True)
        elif data:
            event = json.loads(data)
            # Here your service does its work, in the same transaction. Snapshots and tombstones may come again.
            row = (event["id"], type_, event["user_id"], event["version"], json.dumps(event["changed"]))
            transaction.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", row)
        transaction.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (position,))


def read(client: httpx.Client, database: sqlite3.Connection) -> None:
    """Read on from the last position, or from the beginning, until the connection ends."""
    last = database.execute("SELECT position FROM position").fetchone()
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last[0]} if last else {})
    with client.stream("GET", "/events", params={"from": "beginning"}, headers=headers) as answer:
        answer.raise_for_status()
        for message in messages(lines(answer.iter_bytes())):
            write(database, *message)


def follow(client: httpx.Client, database: sqlite3.Connection) -> None:
    """Come back for ever."""
    while True:
        pause = 1.0
        try:
            read(client, database)
        except httpx.TransportError as error:
            print("again in a moment:", repr(error), file=sys.stderr)
        except httpx.HTTPStatusError as error:
            answer = error.response
            if answer.status_code == 410:  # away for too long, or another topic: what we have may lack erasures
                with database as transaction:
                    transaction.execute("DELETE FROM events")
                    transaction.execute("DELETE FROM position")
            elif answer.status_code not in {429, 502, 503, 504}:
                raise
            said = answer.headers.get("Retry-After", "")
            pause = float(said) if said.isdecimal() else pause  # what is no number is a date, of a proxy
        time.sleep(pause)


def main() -> None:
    token = {"Authorization": f"Bearer {os.environ['MUSTER_TOKEN']}"}
    url = os.environ.get("EVENT_API_URL", "http://127.0.0.1:8005")
    client = httpx.Client(base_url=url, headers=token, timeout=SILENCE_SECONDS, trust_env=False)  # no proxy sees it
    with client, closing(sqlite3.connect(os.environ.get("EVENTS_FILE", "events.sqlite"))) as database:
        database.executescript(TABLES)
        follow(client, database)


if __name__ == "__main__":
    main()

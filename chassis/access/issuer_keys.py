"""The issuer's keys: refreshed before they age, and kept while the issuer does not answer.

A token may be signed with a key that was published a moment ago, and anybody can send key ids that never existed. So an
unknown id leads to a fetch out of turn, at most one in 30 seconds whoever asks, and the request waits for that one. A
known id never waits. There is one fetch at a time. What a good fetch does not list any more has ended; a fetch that
fails, or lists no usable key, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

import structlog
from prometheus_client import Counter

from chassis.access.keys import Key, read_key_set
from chassis.http.health import NotReadyError
from chassis.lifecycle import alongside, end_task
from chassis.outages import Outage

log = structlog.get_logger("access.keys")

#: Between two fetches out of turn.
FORCED_SECONDS: Final = 30.0
#: How long a request waits for a fetch.
WAIT_SECONDS: Final = 2.0
#: Requests that wait for one; more are refused at once.
MOST_WAITING: Final = 256
#: After a failed fetch the next is tried this soon, or at the usual time where that is sooner.
RETRY_SECONDS: Final = 15.0
#: One fetch, its connection included.
FETCH_SECONDS: Final = 10.0

_FETCHES: Final = Counter("muster_issuer_key_fetches_total", "Fetches of the issuer's keys.", ["outcome"])

#: Gives a key set's bytes; raises whatever kept it from it.
Fetch = Callable[[], Awaitable[bytes]]


class IssuerKeys:
    """The keys that count now."""

    def __init__(self, fetch: Fetch, *, refresh_seconds: float) -> None:
        """Use `open`."""
        # A rate misses the first step of a series that begins with it.
        for outcome in ("done", "failed"):
            _FETCHES.labels(outcome)
        self._fetch = fetch
        self._refresh_seconds = refresh_seconds
        self._keys: frozenset[Key] = frozenset()
        self._fetching: asyncio.Task[None] | None = None
        self._forced_at = float("-inf")
        self._waiting = 0
        self._outage = Outage(log, "access.keys_not_fetched", "access.keys_fetched_again")
        #: Grows whenever the set has changed.
        self.generation = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, fetch: Fetch, *, refresh_seconds: float) -> AsyncIterator[IssuerKeys]:
        """Fetch at once, and now and then until the block ends; the block does not wait for the first fetch."""
        keys = cls(fetch, refresh_seconds=refresh_seconds)
        async with alongside(keys._refresh()):
            try:
                yield keys
            finally:
                if keys._fetching:
                    await end_task(keys._fetching)

    def __contains__(self, key: Key) -> bool:
        """Tell whether the key still counts."""
        return key in self._keys

    async def check(self) -> None:
        """Check for readiness that there is a key to verify with.

        Raises:
            NotReadyError: the issuer's keys have never been fetched.
        """
        if not self._keys:
            raise NotReadyError(f"the issuer's keys were not fetched yet: {self._outage.reason or 'the fetch goes on'}")

    async def find(self, algorithm: str, key_id: str | None) -> list[Key]:
        """Return the keys that may have signed a token with these; none if the issuer has none or does not answer.

        Waits at most WAIT_SECONDS, and only where `key_id` is unknown (or no key at all is known).
        """
        if not self._knows(key_id):
            await self._wait_for_news()
        return [key for key in self._keys if key.fits(algorithm, key_id)]

    async def find_new(self, algorithm: str, known: Collection[Key]) -> list[Key]:
        """Return keys beside those known to the caller, for a token without a key id that none of these signed.

        The issuer may have published the key a moment ago, so this waits as `find` does for an unknown id.
        """
        await self._wait_for_news()
        return [key for key in self._keys if key.fits(algorithm, None) and key not in known]

    @property
    def is_empty(self) -> bool:
        """Whether we know no key of the issuer yet."""
        return not self._keys

    def _knows(self, key_id: str | None) -> bool:
        return bool(self._keys) if key_id is None else any(key.key_id == key_id for key in self._keys)

    async def _wait_for_news(self) -> None:
        """Wait for the fetch under way, or for one out of turn if that is allowed now."""
        now = asyncio.get_running_loop().time()
        if self._fetching is None:
            if now - self._forced_at < FORCED_SECONDS:
                return
            self._forced_at = now
            self._begin()
        if self._waiting >= MOST_WAITING or self._fetching is None:
            return
        self._waiting += 1
        try:
            await asyncio.wait([self._fetching], timeout=WAIT_SECONDS)
        finally:
            self._waiting -= 1

    async def _refresh(self) -> None:
        while True:
            if self._fetching is None:
                self._begin()
            if self._fetching is not None:
                await asyncio.wait([self._fetching])
            failing = bool(self._outage.reason)
            await asyncio.sleep(min(RETRY_SECONDS, self._refresh_seconds) if failing else self._refresh_seconds)

    def _begin(self) -> None:
        self._fetching = asyncio.ensure_future(self._take())

    async def _take(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                document = await self._fetch()
            self._replace(read_key_set(document))
        except Exception as error:  # noqa: BLE001 - told; the keys that are known stay, whatever kept the issuer from it
            _FETCHES.labels("failed").inc()
            self._outage.failed(f"{type(error).__name__}: {error}")
        else:
            _FETCHES.labels("done").inc()
            self._outage.over()
        finally:
            self._fetching = None

    def _replace(self, keys: frozenset[Key]) -> None:
        if keys != self._keys:
            self._keys = keys
            self.generation += 1
            log.info("access.keys_changed", key_ids=sorted(str(key.key_id) for key in keys))

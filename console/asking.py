"""Asking a part of Muster that may be away: what comes of it in time, or why nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, TypeVar

import asyncpg
import httpx
import structlog

from chassis.kafka.client import KAFKA_ERRORS
from chassis.kafka.refusals import REFUSALS, explain
from chassis.postgres.database import DatabaseUnavailableError

log = structlog.get_logger("console")

T = TypeVar("T")

#: One part has so long to answer.
LOOK_SECONDS: Final = 4.0
_FORESEEN: Final[tuple[type[Exception], ...]] = (
    *(DatabaseUnavailableError, asyncpg.PostgresError, httpx.HTTPError),
    *(*KAFKA_ERRORS, *REFUSALS),
)


class OtherProcessError(Exception):
    """Another process answers there than the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A part of which nothing is known, and why."""

    why: str


async def within(work: Awaitable[T]) -> T | Failed:
    """The result of the work in LOOK_SECONDS, or why there is none, whatever that is."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await work
    except TimeoutError:
        return Failed(f"no answer within {LOOK_SECONDS:g} s")
    except OtherProcessError as error:
        return Failed(str(error))
    except _FORESEEN as error:
        return Failed(explain(error))
    except Exception as error:
        log.exception("console.part_not_known")
        return Failed(f"{type(error).__name__}: the console's log says what")

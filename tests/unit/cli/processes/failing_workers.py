"""A supervisor whose workers cannot start, as a program: what it exits with is for a test."""

import sys
from contextlib import AbstractAsyncContextManager

import typer
from fastapi import FastAPI

from chassis.settings import Http
from cli.processes import serve


def cannot_start(inside: serve.Inside) -> FastAPI:
    """An app that fails while it starts."""

    def fails(_: FastAPI) -> AbstractAsyncContextManager[None]:
        raise ZeroDivisionError

    return FastAPI(lifespan=fails)


def supervise() -> None:
    """Be the supervisor of two such workers."""
    with serve._bind("127.0.0.1", 0, "--port") as public, serve._bind("127.0.0.1", 0, "--port") as inner:
        try:
            serve._supervise(cannot_start, Http(workers=2), public, inner)
        except typer.Exit as end:
            sys.exit(end.exit_code)

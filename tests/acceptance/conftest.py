"""One whole stack for all acceptance tests; each leaves it running."""

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from tests.acceptance.stack import Stack
from tests.infrastructure import throwaway_folder


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A running stack."""
    folder = throwaway_folder()
    stack = Stack.on(folder / ".local")
    try:
        asyncio.run(stack.start())
        yield stack
    finally:
        if stack.process is not None:
            asyncio.run(stack.stop())
        shutil.rmtree(folder)

"""One whole stack for a module's acceptance tests, and Muster installed from its wheel, once."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.installing.installation import build_wheel, install
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


@pytest.fixture
def throwaway() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach, unlike pytest's own where we are root."""
    made = throwaway_folder()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def service(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with the wheel and what a service needs, and nothing else."""
    return install(wheel, "service.txt", tmp_path_factory.mktemp("service") / "environment")


@pytest.fixture(scope="session")
def local(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with what the local stack needs: what `uv tool install 'muster[local]'` makes."""
    return install(wheel, "local.txt", tmp_path_factory.mktemp("local") / "environment")

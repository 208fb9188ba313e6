import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infrastructure import throwaway_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach, unlike pytest's own where we are root."""
    made = throwaway_folder()
    yield made
    shutil.rmtree(made)

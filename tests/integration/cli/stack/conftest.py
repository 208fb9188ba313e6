from pathlib import Path

import pytest


@pytest.fixture
def folder(server_folder: Path) -> Path:
    """Return a folder that PostgreSQL's user can reach, unlike pytest's own where we are root."""
    return server_folder

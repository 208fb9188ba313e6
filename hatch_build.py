"""Puts the console's scripts into a wheel: they are in no repository, and come from the network when one is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Scripts(BuildHookInterface[Any]):
    """Fetches what is missing, pinned, and lets the wheel have it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Do so before a wheel is built; an editable one has what is in its checkout."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from local_stack.webjars import FOLDER, unpack  # noqa: PLC0415 - of this checkout, which is found only now

        for file in unpack(Path(self.root) / FOLDER):
            build_data["force_include"][str(file)] = str(FOLDER / file.name)

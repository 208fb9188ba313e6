"""Settings from files: NAME_FILE names the file that has NAME's value, as orchestrators hand secrets to a container."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic_settings import EnvSettingsSource

from chassis.settings_error import SettingsError

#: More is no setting: a list of keys takes a few KiB.
MAX_BYTES: Final = 64 * 1024


def read_files(names: list[str], *sources: EnvSettingsSource) -> None:
    """Put what the files hold among the sources' values.

    One newline at the end of a file is not part of its value; an empty file counts as absent, like an empty value.

    Raises:
        SettingsError: a file cannot be read, or the same value is given twice; one line for each, without its value.
    """
    errors = []
    for name in dict.fromkeys(names):
        for source in sources:
            path = source.env_vars.get(f"{name}_FILE".lower())
            if not path:
                continue
            if any(each.env_vars.get(name.lower()) for each in sources):
                errors.append(f"{name} and {name}_FILE are both set: keep one of them")
                break
            try:
                source.env_vars = {**source.env_vars, name.lower(): _read(Path(path)) or None}
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                errors.append(f"{name}_FILE names {path}, which cannot be read ({why}): mend that, or set {name}")
            break
    if errors:
        raise SettingsError(errors)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error

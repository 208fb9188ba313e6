"""Muster as somebody has it who has no checkout: the wheel and locked packages in an environment of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")
INSTALL_SECONDS = 300


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT)
    [wheel] = folder.iterdir()
    return wheel


def install(wheel: Path, lock: str, folder: Path) -> Path:
    """Make an environment of what a lock file pins and the wheel; gives the folder of its programs.

    Compiled, as in the image: a dozen processes start from it, some of which may not write.
    """
    run(UV, "venv", "-q", "--python", sys.executable, folder, folder=folder.parent)
    command = (UV, "pip", "install", "-q", "--compile-bytecode", "--python", folder)
    run(*command, "--require-hashes", "-r", ROOT / "requirements" / lock, folder=folder.parent)
    run(*command, "--no-deps", wheel, folder=folder.parent)
    return folder / "bin"


def run(*command: str | Path, folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and give what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment or os.environ | uv_variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def uv_variables() -> dict[str, str]:
    """What tells uv of the mirror and the certificate that pip is configured with, as the Makefile does."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or asked.stdout.strip()
    certificate = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    found = {"UV_DEFAULT_INDEX": index, "SSL_CERT_FILE": certificate}
    return {name: value for name, value in found.items() if value}

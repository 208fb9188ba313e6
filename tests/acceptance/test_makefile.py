"""`make up` before there is a Muster: the interpreter that is there, or is not, and packages that cannot be had."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["make", "sh", "cat", "rm", "touch", "awk"]
MAKE_SECONDS = 120

TOO_OLD = "#!/bin/sh\nexit 1\n"
#: Debian's python3 without python3-venv.
WITHOUT_VENV = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that nothing was made in yet, in a path as people have them."""
    folder = tmp_path / "ein Ordner mit ü"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    return folder


def make(checkout: Path, interpreters: dict[str, str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `make up` where the only interpreters are these scripts."""
    programs = checkout.parent / "bin"
    programs.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (programs / tool).symlink_to(found)
    for name, script in interpreters.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    return subprocess.run(
        ["make", "up"],
        cwd=checkout,
        env={"PATH": str(programs), "HOME": str(checkout.parent), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=MAKE_SECONDS,
    )


@pytest.mark.parametrize(
    ("interpreters", "words"),
    [
        ({}, "Muster needs Python 3.11 or newer and found none"),
        ({"python3": TOO_OLD, "python": TOO_OLD}, "Muster needs Python 3.11 or newer and found none"),
        ({"python3": WITHOUT_VENV}, "python3 cannot make virtual environments: install its venv package"),
    ],
    ids=["no Python", "Python too old", "Python without venv"],
)
def test_make_up_without_a_python_it_can_use_is_one_sentence(
    checkout: Path, interpreters: dict[str, str], words: str
) -> None:
    done = make(checkout, interpreters)

    assert done.returncode == 2
    sentence, _makes_own = done.stderr.splitlines()
    assert sentence.startswith(words)
    assert not (checkout / ".venv").exists()


def test_make_up_without_a_network_says_what_to_do_and_can_be_repeated(checkout: Path) -> None:
    real = shutil.which("python3")
    assert real is not None
    unreachable = "http://127.0.0.1:1/simple"

    done = make(
        checkout,
        {"python3": f'#!/bin/sh\nexec "{os.path.realpath(real)}" "$@"\n'},
        PIP_INDEX_URL=unreachable,
        PIP_RETRIES="0",
        PIP_CONFIG_FILE=os.devnull,
    )

    assert done.returncode == 2
    assert "The packages could not be installed: the first run needs the network" in done.stderr
    assert not (checkout / ".venv" / ".bootstrap").exists()

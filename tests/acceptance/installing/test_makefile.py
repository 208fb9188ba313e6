"""`make up` before there is a Muster: the interpreter that is there, or is not, and packages that cannot be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOLS = ["make", "sh", "cat", "rm", "mkdir", "touch", "awk"]
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
    (folder / "local_stack").mkdir()
    shutil.copy(ROOT / "local_stack" / "webjars.txt", folder / "local_stack")
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
    real = Path(sys.executable).resolve()  # not the environment's: it knows where its packages are
    unreachable = "http://127.0.0.1:1/simple"

    done = make(
        checkout,
        {"python3": f'#!/bin/sh\nexec "{real}" "$@"\n'},
        PIP_INDEX_URL=unreachable,
        PIP_RETRIES="0",
        PIP_CONFIG_FILE=os.devnull,
    )

    assert done.returncode == 2
    assert "The packages could not be installed: the first run needs the network" in done.stderr
    assert not (checkout / ".venv" / ".bootstrap").exists()


def test_two_first_makes_in_one_checkout_do_not_make_one_environment_twice(checkout: Path) -> None:
    (checkout / ".venv.making").mkdir()
    (checkout / ".venv.making" / "pid").write_text(f"{os.getpid()}\n")

    done = make(checkout, {"python3": TOO_OLD})

    sentence, _makes_own = done.stderr.splitlines()
    assert sentence == (
        f"Another make (process {os.getpid()}) is making .venv here: let it finish, then run make again."
    )
    assert not (checkout / ".venv").exists()


def test_an_environment_half_made_by_a_killed_make_keeps_nobody_out(checkout: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    (checkout / ".venv.making").mkdir()
    (checkout / ".venv.making" / "pid").write_text(f"{dead.pid}\n")

    done = make(checkout, {"python3": TOO_OLD})

    assert "Muster needs Python 3.11 or newer" in done.stderr


def test_what_is_installed_is_compiled_so_that_no_start_has_to(checkout: Path) -> None:
    """Where the shell forbids Python to write bytecode, nobody else would."""
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["make", "--dry-run", "up"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=MAKE_SECONDS,
    )

    installs = [line for line in done.stdout.splitlines() if '/uv" pip install' in line]
    assert len(installs) == 2  # Muster itself, and what the local stack needs
    assert all("--compile-bytecode" in line for line in installs)

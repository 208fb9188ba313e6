"""Nothing is larger than CONTRIBUTING.md allows."""

import ast
import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: Alembic keeps all of a database's steps in one folder, which grows for ever.
STEPS = "versions"


def modules() -> list[Path]:
    """Every module that is, or is about to be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for name in found if (path := ROOT / name).exists()]


def test_no_folder_holds_more_than_twelve_modules() -> None:
    held = Counter(path.parent for path in modules() if path.name != "__init__.py" and path.parent.name != STEPS)

    assert held
    assert {str(folder.relative_to(ROOT)): count for folder, count in held.items() if count > 12} == {}


def test_no_module_has_more_than_500_lines_and_no_function_more_than_70() -> None:
    long: dict[str, int] = {}
    for path in modules():
        text, name = path.read_text(), str(path.relative_to(ROOT))
        if (lines := len(text.splitlines())) > 500:
            long[name] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 70:
                    long[f"{name}: {node.name}"] = lines

    assert long == {}

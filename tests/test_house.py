"""The house rules, as tests: floors, types, lint, light imports, documented names, small rooms, a true README."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sdesim", "surrogates")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FILE_LINES, FUNCTION_LINES = 350, 45  # about 300 and about 40: longer means that a room holds two things


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a console script of this environment in the repository."""
    command = Path(sys.executable).with_name(name)
    return subprocess.run([str(command), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def names(package: str) -> list[str]:
    return list(importlib.import_module(package).__all__)


def test_a_file_imports_only_from_its_floor_and_below() -> None:
    done = tool("lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    done = tool("ruff", "check", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_types_are_strict() -> None:
    done = tool("mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_sdesim_is_light() -> None:
    # half a second is what these cost; their absence is what a busy machine can check
    heavy = {"scipy", "xarray", "pandas", "torch", "dask", "matplotlib", "llvmlite", "sympy", "numba", "tqdm"}
    code = "import sys, sdesim; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sdesim" in loaded
    assert not heavy & loaded


def test_public_names_stay_themselves_when_rooms_of_the_same_name_are_entered() -> None:
    code = (
        "import sdesim as sim; from importlib import import_module; from sdesim import cli\n"
        "for name in sim.__all__:\n"
        "    try: import_module(f'sdesim.{name}')\n"
        "    except ModuleNotFoundError: pass\n"
        "sim.simulate(sim.SDE({'x': '-x'}), {'x': 1.0}, [0.0, 1.0])\n"
        "print(*[name for name in sim.__all__ if name != 'equations' and not callable(getattr(sim, name))])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_a_docstring_with_an_example(package: str) -> None:
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in names(package) if not name.startswith("__")}
    assert public
    lacking = [name for name, value in public.items() if ">>>" not in (value.__doc__ or "")]
    assert not lacking, f"public names without a tested example: {lacking}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_a_function_hold_one_thing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= FILE_LINES, f"{path.name} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= FUNCTION_LINES, f"{path.name}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_evaluated_or_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "sympify"), f"{path.name}:{node.lineno} {node.func.id}"
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not {"pickle", "dill", "cloudpickle", "marshal", "shelve"} & set(imported), f"{path.name}:{node.lineno}"


def test_the_readme_names_both_commands_and_the_constraints() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for marker, end in (("demo-command", "sdesim demo"), ("test-command", "pytest -n 2")):
        command = readme.split(f"<!-- {marker} -->")[1].split("```")[1].removeprefix("bash").strip()
        assert command.startswith("python3 -m venv ")
        assert "pip install -c constraints.txt" in command
        assert command.endswith(end)
        assert "\n" not in command
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_every_console_command_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets = [*project["scripts"].values(), *project["entry-points"]["sdesim.commands"].values()]
    for target in targets:
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))

"""The rules that hold between files: who may import whom, how long files and functions are, and what is described."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("features", "pipelines", "flows", "fusion")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

# What a package may import of the others; features is the ground that all stand on.
_MAY_IMPORT = {
    "features": {"features"},
    "pipelines": {"features", "pipelines"},
    "fusion": {"features", "fusion"},
    "flows": {"features", "pipelines", "fusion", "flows"},
}
_NEVER = {
    "features": {"apache_beam", "prefect", "dvc"},
    "pipelines": {"prefect", "dvc"},
    "fusion": {"apache_beam", "prefect"},
    "flows": set(),
}

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
_names = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def _imports(nodes: Iterable[ast.AST], path: Path) -> set[str]:
    """Full names of the modules that the statements import, relative ones resolved."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            names.add(".".join([*parents, *([node.module] if node.module else [])]))
    return names


def _all_imports(path: Path) -> set[str]:
    return _imports(ast.walk(ast.parse(path.read_text())), path)


def _module_imports(path: Path) -> set[str]:
    """Imports that run when the module is imported: those outside of functions and of TYPE_CHECKING."""
    found: list[ast.AST] = []
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        found.append(node)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += ast.iter_child_nodes(node)
    return _imports(found, path)


def _top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 40


@_names
def test_imports_run_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]

    assert _top(_all_imports(path)) & set(PACKAGES) <= _MAY_IMPORT[package]


@_names
def test_packages_do_without_what_is_not_theirs(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]

    assert not _top(_module_imports(path)) & _NEVER[package]


def test_reading_features_loads_no_framework() -> None:
    """Also not through a module that is imported on the way; torch comes with the encoders and with tensors alone."""
    names = {path.stem for path in (ROOT / "features").glob("[a-z]*.py")} - {"torch_loader"}
    modules = ["features", *(f"features.{name}" for name in sorted(names))]
    code = f"import sys, importlib; [importlib.import_module(name) for name in {modules}]; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not {"torch", "transformers", "apache_beam", "prefect", "dvc"} & set(ended.stdout.split())


@_names
def test_files_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


@_names
def test_functions_are_small(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES}

    assert not long


@_names
def test_modules_classes_and_functions_say_what_they_are(path: Path) -> None:
    tree = ast.parse(path.read_text())
    definitions = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    ]
    silent = {node.name for node in definitions if not ast.get_docstring(node)}

    assert not silent
    assert not tree.body or ast.get_docstring(tree)

"""Digests: of definitions, of bytes, of code, and of the libraries that decode."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DIGEST_CHARS = 32  # 128 bits: no accidental collision among any number of samples


def digest_bytes(*parts: bytes | memoryview) -> str:
    """Hex digest of the parts; each is preceded by its length, so ("a", "bc") differs from ("ab", "c")."""
    return digest_pieces((len(part), [part]) for part in parts)


def digest_pieces(parts: Iterable[tuple[int, Iterable[bytes | memoryview]]]) -> str:
    """The same of parts that come piece by piece: of each its length, in whatever unit, and the pieces."""
    sha = hashlib.sha256()
    for length, pieces in parts:
        sha.update(length.to_bytes(8, "little"))
        for piece in pieces:
            sha.update(piece)
    return sha.hexdigest()[:DIGEST_CHARS]


def digest_json(definition: Any) -> str:
    """Hex digest of a JSON-like definition; the order of mapping keys does not matter."""
    canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return digest_bytes(canonical.encode())


def digest_file(path: str | Path) -> str:
    """Full sha256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed version of each distribution."""
    return {name: version(name) for name in sorted(names)}


@cache
def digest_code(*modules: str, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Digest by module of what the modules compute, with all that they import of their own package and of features:
    the syntax trees without comments, docstrings and formatting.

    It stands where a hand-bumped number would: an edit that can change a result changes the digest, a reworded
    comment does not. without: modules that decide no result; what only they import is left out too.
    """
    packages = {"features", *(name.partition(".")[0] for name in modules)}
    digests: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name in digests or name in without:
            continue
        tree = _without_docstrings(_parse(name))
        digests[name] = digest_bytes(ast.dump(tree).encode())
        todo += _imported(tree, packages)
    return dict(sorted(digests.items()))


def _parse(module: str) -> ast.Module:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {module!r} to digest")
    return ast.parse(Path(spec.origin).read_bytes())


def _imported(tree: ast.Module, packages: set[str]) -> Iterator[str]:
    """Names of the packages' modules that a module imports, wherever it does so; no import here is relative."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in packages)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in packages:
            yield node.module
            package = find_spec(node.module)
            if package is not None and package.submodule_search_locations is not None:
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from (name for name in names if find_spec(name) is not None)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


def seed_of(seed: int, *names: str) -> int:
    """A 64-bit seed that is a function of the arguments alone."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def feature_key(rev: str, input_digest: str | None) -> str:
    """Identity of one stored row: the view's rev and the digest of the very bytes its encoder was given.

    The bytes that reach the encoder are the outcome of every step before it, so hashing them covers the raw file,
    the parameters and the code of those steps; the decoders that the encoder itself uses are part of the rev.
    """
    return digest_bytes(rev.encode(), *([] if input_digest is None else [input_digest.encode()]))

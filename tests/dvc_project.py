"""Small projects of git and DVC with a feature store, for tests of versions."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from building import build_store

NUM_SAMPLES = 20
KEYS = [f"rec{number:02}/0000" for number in range(NUM_SAMPLES)]


def isolate(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let git and DVC neither read the user's settings nor write outside the folder."""
    patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("SYSTEM_CONFIG_DIR", "GLOBAL_CONFIG_DIR", "SITE_CACHE_DIR"):
        patch.setenv(f"DVC_{name}", str(folder / name))


def git(project: Path, *arguments: str) -> str:
    """What git prints in a project."""
    command = ["git", "-C", str(project), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def dvc(project: Path) -> Iterator[object]:
    """DVC's repository of a project."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        yield repo


def init_project(project: Path, *, git_root: Path | None = None, has_remote: bool = False) -> None:
    """An empty project of git and DVC, where wanted below the root of the git repository.

    has_remote: whether it has the folder beside it as a DVC remote, as every copy of it has then.
    """
    from dvc.repo import Repo

    project.mkdir(parents=True)
    git(git_root or project, "init", "--quiet", "--initial-branch", "main")
    git(project, "config", "user.name", "Tester")
    git(project, "config", "user.email", "tester@example.com")
    Repo.init(str(project), subdir=git_root is not None).close()
    remote = "    remote = store\n['remote \"store\"']\n    url = ../../remote\n" if has_remote else ""
    (project / ".dvc" / "config").write_text(f"[core]\n    analytics = false\n{remote}")


def write_store(folder: Path, value: float, *, edited: int = 0) -> None:
    """A store of two views; value: of all image vectors; edited: how many samples have another text and text vector."""
    samples = [{"key": key, "text": "new" if row < edited else "old"} for row, key in enumerate(KEYS)]
    texts = [np.full(3, float(row < edited)) for row in range(NUM_SAMPLES)]
    inputs = [f"{key} {row < edited}" for row, key in enumerate(KEYS)]
    views = {
        "image": {"vectors": [np.full(4, value)] * NUM_SAMPLES, "rev": f"image {value}"},
        "text": {"vectors": texts, "inputs": inputs},
    }
    folder.mkdir(parents=True, exist_ok=True)
    build_store(folder, samples, views)


def objects(folder: Path) -> set[str]:
    """The digests of the objects that DVC keeps in a cache or a remote."""
    return {path.parent.name + path.name for path in (folder / "files" / "md5").glob("??/*") if path.is_file()}

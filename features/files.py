"""The files of one version of a store: held while it is read, and set aside, not removed, while somebody reads it."""

import fcntl
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from features.errors import ShardError, StoreError
from features.manifest import MANIFEST_FILE
from features.rev import digest_bytes

Content = TypeVar("Content")


class StoreFiles(Protocol):
    """Where the files of one version are. It can be pickled, and gives the same version in another process."""

    folder: Path  # of the store; for a past version, what messages call it

    @property
    def manifest(self) -> bytes:
        """The content of the manifest."""

    def places(self, name: str) -> Iterator[Path]:
        """Where the file of this name (as "samples/<file>") may be, likeliest first; it is opened at the first place
        that has it, since a writer may be moving it. Nothing is yielded for a file that cannot be had."""


def open_first(files: StoreFiles, name: str, read: Callable[[Path], Content]) -> Content:
    """What read gives of the file of this name. Raises ShardError if the file is nowhere."""
    for path in files.places(name):
        with suppress(FileNotFoundError):
            return read(path)
    raise ShardError(
        f"shard {files.folder / name} is in the manifest but not on disk: run 'dvc checkout' or 'dvc repro'"
    )


class FolderFiles:
    """The version that a folder holds. While it is open, a writer that publishes a newer one sets its files aside."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError if the folder holds no store."""
        self.folder = folder
        self.manifest = self._hold(folder / MANIFEST_FILE)

    def places(self, name: str) -> Iterator[Path]:
        yield self.folder / name
        yield retired_folder(self.folder) / name

    def _hold(self, path: Path) -> bytes:
        """The content of the manifest, which stays locked as long as this object lives: a writer sees that."""
        while True:
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                raise StoreError(
                    f"{path.parent} holds no {MANIFEST_FILE}, so it is no feature store: run 'dvc repro embed'"
                ) from None
            hold = weakref.finalize(self, os.close, file)
            fcntl.flock(file, fcntl.LOCK_SH)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return os.pread(file, os.fstat(file).st_size, 0)
            hold()  # it was replaced between the two calls

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Raises StoreError if the version is there no longer."""
        self.__dict__.update(state)
        aside = retired_folder(self.folder) / _manifest_name(self.manifest)
        for place in (self.folder / MANIFEST_FILE, aside):
            if place.is_file() and self._hold(place) == self.manifest:
                return
        raise StoreError(f"{self.folder} has a newer version than the one that was handed on: open it again")


def retired_folder(folder: Path) -> Path:
    """Where files of older versions are set aside: beside the store, since all that is in it belongs to the new one."""
    resolved = folder.resolve()
    return resolved.with_name(f".{resolved.name}.retired")


def publish_manifest(folder: Path, manifest: Path, *, keep: set[str]) -> None:
    """Replace the store's manifest by the given file, and remove all files but those that the new version keeps.

    keep: their names, as "samples/<file>". What an older version needs that is being read is set aside, and removed
    by the first publishing after nobody reads it any more.
    """
    current, aside = folder / MANIFEST_FILE, retired_folder(folder)
    if current.exists():
        aside.mkdir(exist_ok=True)
        held = aside / _manifest_name(current.read_bytes())
        held.unlink(missing_ok=True)
        os.link(current, held)  # the very file whose lock tells whether it is read
    os.replace(manifest, current)
    is_read = not _forget_unread(aside)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        name = path.relative_to(folder).as_posix()
        if name in keep or name == MANIFEST_FILE:
            continue
        if is_read:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, aside / name)
        else:
            path.unlink()
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _manifest_name(manifest: bytes) -> str:
    return f"manifest-{digest_bytes(manifest)}.json"


def _forget_unread(aside: Path) -> bool:
    """Forget the older versions that nobody reads; whether none is left, and with them all that was set aside."""
    held = list(aside.glob("manifest-*.json"))
    for path in held:
        if _is_free(path):
            path.unlink()
    if any(path.exists() for path in held):
        return False
    if aside.exists():
        shutil.rmtree(aside)
    return True


def _is_free(manifest: Path) -> bool:
    with open(manifest, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True

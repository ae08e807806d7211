"""The files of one version of a store: held while it is read, and set aside, not removed, while somebody reads it."""

import fcntl
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from features.errors import ShardError, StoreError
from features.manifest import MANIFEST_FILE, parse_manifest
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
        self._place = folder.absolute()  # the process may go to another folder before it reads a shard
        self._file = self._hold(self._place / MANIFEST_FILE)

    @property
    def manifest(self) -> bytes:
        """The content of the manifest, read anew: it grows with the store."""
        return _content(self._file)

    def places(self, name: str) -> Iterator[Path]:
        yield self._place / name
        yield retired_folder(self._place) / name

    def _hold(self, path: Path) -> int:
        """The descriptor of the manifest, which stays locked as long as this object lives: a writer sees that."""
        while True:
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                raise StoreError(
                    f"{self.folder} holds no {MANIFEST_FILE}, so it is no feature store: run 'dvc pull' if one was "
                    "published, or 'dvc repro embed'"
                ) from None
            hold = weakref.finalize(self, os.close, file)
            if path.is_symlink() or os.fstat(file).st_nlink > 1:
                # DVC puts a copy in the place of a link to its cache before a stage runs, and no writer would see the
                # lock. Who may not write here is not seen then.
                with suppress(OSError):
                    _keep_manifest(self._place, path, _content(file))
            fcntl.flock(file, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat()):
                    return file
            hold()  # it was replaced or removed between the calls

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "_place": self._place, "digest": digest_bytes(self.manifest)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Raises StoreError if the version is there no longer."""
        self.folder, self._place, digest = state["folder"], state["_place"], state["digest"]
        aside = retired_folder(self._place).glob(f"{_manifest_name(digest)}-*.json")
        for place in (self._place / MANIFEST_FILE, *aside):
            with suppress(FileNotFoundError):
                if digest_bytes(place.read_bytes()) == digest:
                    self._file = self._hold(place)
                    if digest_bytes(self.manifest) == digest:
                        return
        raise StoreError(f"{self.folder} has a newer version than the one that was handed on: open it again")


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def retired_folder(folder: Path) -> Path:
    """Where files of older versions are set aside: beside the store, since all that is in it belongs to the new one."""
    resolved = folder.resolve()
    return resolved.with_name(f".{resolved.name}.retired")


def publish_manifest(folder: Path, manifest: Path) -> None:
    """Replace the store's manifest by the given file, and remove all files that it does not list.

    What an older version needs that is being read is set aside, and removed by the first publishing after nobody reads
    that version any more.
    """
    current, aside = folder / MANIFEST_FILE, retired_folder(folder)
    listed = parse_manifest(manifest.read_bytes(), folder).file_names | {MANIFEST_FILE}
    if current.exists():
        _keep_manifest(folder, current, current.read_bytes())
    os.replace(manifest, current)
    needed = _forget_unread(aside)
    for name in _names(folder) - listed:
        if name in needed:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / name, aside / name)
        else:
            (folder / name).unlink()
    for name in _names(aside) - needed:
        (aside / name).unlink()
    _remove_empty(folder)
    _remove_empty(aside)


def _manifest_name(digest: str) -> str:
    return f"manifest-{digest}"


def _keep_manifest(folder: Path, path: Path, content: bytes) -> None:
    """Keep the very file of a manifest, whose lock tells whether it is read, among what is set aside. Several files
    can have the same content, since a version can be published again."""
    aside = retired_folder(folder)
    aside.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        os.link(
            path, aside / f"{_manifest_name(digest_bytes(content))}-{path.stat().st_ino}.json", follow_symlinks=False
        )


def _forget_unread(aside: Path) -> set[str]:
    """Forget the older versions that nobody reads; the names of all files that the others need, and of their manifests.

    Raises StoreError if a version is read that another Plait wrote.
    """
    needed: set[str] = set()
    for path in aside.glob("manifest-*.json"):
        if _is_free(path):
            path.unlink()
        else:
            needed |= {path.name} | parse_manifest(path.read_bytes(), aside).file_names
    return needed


def _is_free(manifest: Path) -> bool:
    # NFS gives an exclusive lock only on what is open for writing.
    mode = os.O_RDWR if os.access(manifest, os.W_OK) else os.O_RDONLY
    try:
        file = os.open(manifest, mode | os.O_CLOEXEC)
    except FileNotFoundError:  # a link into DVC's cache, which does not keep it any more
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def _names(folder: Path) -> set[str]:
    """The files in a folder, as "samples/<file>"."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _remove_empty(folder: Path) -> None:
    """Remove the folders in the folder that hold nothing, and itself if it holds nothing then."""
    for path in sorted((path for path in [folder, *folder.rglob("*")] if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()

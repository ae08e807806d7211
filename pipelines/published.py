"""The published version of the store: what embed keeps or copies instead of making it again."""

import os
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import ShardError, StoreError
from features.manifest import MANIFEST_FILE, SAMPLES_FOLDER, Manifest, parse_manifest
from features.rev import digest_file
from features.shards import Shard, read_rejects, read_shard
from features.view import StoredView
from pipelines.job import Reject

_REJECT_STAGE = "embed"
_ARROW_END = b"ARROW1"


class StoredRows:
    """Rows of views' shards: what each is, and where it lies. What is not asked for is not read."""

    def __init__(self, folder: Path, files: list[tuple[StoredView, Shard]]) -> None:
        self.files = files
        self._paths = [folder / view.name / shard.file for view, shard in files]
        lengths = [shard.num_rows for _, shard in files]
        self.file_N = np.repeat(np.arange(len(files)), lengths)  # place in files
        self.row_N = np.concatenate([np.arange(0), *map(np.arange, lengths)])  # place in the file

    @cached_property
    def feature_keys(self) -> pa.Array:
        """The feature key of each row."""
        return self._column("feature_key")

    @cached_property
    def keys(self) -> pa.Array:
        """The sample's key of each row."""
        return self._column("key")

    def is_present(self, places_N: np.ndarray) -> np.ndarray:
        """bool [place], whether these rows have an embedding."""
        present_N = np.zeros(len(places_N), bool)
        for file in np.unique(self.file_N[places_N]).tolist():
            is_valid = read_shard(self._paths[file], ["embedding"]).column("embedding").is_valid().to_numpy()
            of_file_N = self.file_N[places_N] == file
            present_N[of_file_N] = is_valid[self.row_N[places_N[of_file_N]]]
        return present_N

    def _column(self, name: str) -> pa.Array:
        columns = [read_shard(path, [name]).column(name) for path in self._paths]
        lengths = [len(column) for column in columns]
        for (_, shard), path, length in zip(self.files, self._paths, lengths, strict=True):
            if length != shard.num_rows:
                said = f"holds {length} rows, the manifest says {shard.num_rows}"
                raise ShardError(f"shard {path} {said}: delete it and run 'dvc repro'")
        return pa.concat_arrays([pa.array([], pa.string()), *(chunk for column in columns for chunk in column.chunks)])


@dataclass(frozen=True)
class Published:
    """The version that a folder holds; none is published if there is no manifest."""

    folder: Path
    manifest: Manifest | None
    rejects: dict[tuple[str, str], Reject]  # what could not be encoded, by view and key
    published_ns: int = 0  # when the manifest was written

    @property
    def views(self) -> dict[str, StoredView]:
        return self.manifest.views if self.manifest else {}

    def sample_shards(self) -> dict[str, Shard]:
        """The shards of the sample table that stand, by file."""
        shards = self.manifest.shards if self.manifest else ()
        return {shard.file: shard for shard in shards if self._stands(SAMPLES_FOLDER, shard)}

    def view_shards(self, name: str) -> dict[str, Shard]:
        """The shards of a view that stand, by file; none if there is no such view."""
        shards = _shards_of(self.views[name], self.manifest) if self.manifest and name in self.views else []
        return {shard.file: shard for shard in shards if self._stands(name, shard)}

    def _stands(self, name: str, shard: Shard) -> bool:
        """Whether a file of the version is there; one that somebody removed is made again.

        Raises ShardError if it is another file now. It is read through only if it was written after the manifest was,
        as no file that was published with it is: then DVC, too, would take note of it as it is.
        """
        path = self.folder / name / shard.file
        try:
            with open(path, "rb") as file:
                stat = os.fstat(file.fileno())
                file.seek(-min(len(_ARROW_END), stat.st_size), os.SEEK_END)
                is_whole = file.read() == _ARROW_END
        except FileNotFoundError:
            return False
        if not is_whole:
            raise ShardError(f"{path} is no whole Arrow file: delete it and run 'dvc repro'")
        is_new = stat.st_mtime_ns > self.published_ns
        if is_new and _digest_at(path, stat.st_size, stat.st_mtime_ns) != shard.digest:
            raise ShardError(f"{path} is not what the manifest says: delete it and run 'dvc repro'")
        return True

    def rows(self, views: list[StoredView]) -> StoredRows:
        """All rows of the views' shards that stand."""
        files = [(view, shard) for view in views for shard in self.view_shards(view.name).values()]
        return StoredRows(self.folder, files)


@cache
def _digest_at(path: Path, num_bytes: int, mtime_ns: int) -> str:
    return digest_file(path)


def _shards_of(view: StoredView, manifest: Manifest) -> list[Shard]:
    return [replace(shard, file=view.files[shard.name], digest=view.digests[shard.name]) for shard in manifest.shards]


def read_published(folder: Path) -> Published:
    """The version that the folder holds. Raises StoreError if it is of another format or not whole."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return Published(folder, None, {})
    manifest = parse_manifest(path.read_bytes(), folder)
    return Published(folder, manifest, _read_rejects(folder / manifest.rejects), path.stat().st_mtime_ns)


def _read_rejects(path: Path) -> dict[tuple[str, str], Reject]:
    if not path.is_file():
        raise StoreError(f"{path} is in the manifest but not on disk: run 'dvc checkout {path.parent}'")
    try:
        rejects = read_rejects(path)
    except ShardError as error:
        raise StoreError(f"{path} is damaged: delete it and run 'dvc checkout {path.parent}'") from error
    rows = rejects.filter(pc.equal(rejects.column("stage"), _REJECT_STAGE)).to_pylist()
    return {(_view_of(row["text"]), row["key"]): Reject(**row) for row in rows}


def renamed(reject: Reject, view: str, key: str) -> Reject:
    """The same reject of the same input under another view or key."""
    return replace(reject, key=key, text=reject.text.replace(f"view {_view_of(reject.text)}: ", f"view {view}: ", 1))


def _view_of(text: str) -> str:
    found = re.match(r"view (\w+): ", text)
    return found[1] if found else ""

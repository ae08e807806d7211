"""The published version of the store: what embed keeps or copies instead of making it again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import ShardError, StoreError
from features.manifest import MANIFEST_FILE, SAMPLES_FOLDER, Manifest, parse_manifest
from features.shards import Shard, read_rejects, read_shard
from features.view import StoredView
from pipelines.job import Reject

_REJECT_STAGE = "embed"
_ROW_COLUMNS = ["key", "feature_key", "embedding"]


@dataclass(frozen=True)
class StoredRows:
    """Rows of views' shards: what each is, whether it has an embedding, and where it lies."""

    keys: pa.Array
    feature_keys: pa.Array
    present_N: np.ndarray
    file_N: np.ndarray  # place in files
    row_N: np.ndarray  # place in the file
    files: list[tuple[StoredView, Shard]]


@dataclass(frozen=True)
class Published:
    """The version that a folder holds; none is published if there is no manifest."""

    folder: Path
    manifest: Manifest | None
    rejects: dict[tuple[str, str], Reject]  # what could not be encoded, by view and key
    _opened: dict[str, dict[str, pa.Table]] = field(default_factory=dict)  # by view and file, as far as looked at

    @property
    def views(self) -> dict[str, StoredView]:
        return self.manifest.views if self.manifest else {}

    def sample_shards(self) -> dict[str, Shard]:
        """The shards of the sample table that stand, by file."""
        shards = self.manifest.shards if self.manifest else ()
        return {shard.file: shard for shard in shards if self._open(SAMPLES_FOLDER, shard, ["key"]) is not None}

    def view_shards(self, name: str) -> dict[str, Shard]:
        """The shards of a view that stand, by file; none if there is no such view."""
        if self.manifest is None or name not in self.views:
            return {}
        shards = _shards_of(self.views[name], self.manifest)
        if name not in self._opened:
            tables = {shard.file: self._open(name, shard, _ROW_COLUMNS) for shard in shards}
            self._opened[name] = {file: table for file, table in tables.items() if table is not None}
        return {shard.file: shard for shard in shards if shard.file in self._opened[name]}

    def rows(self, views: list[StoredView]) -> StoredRows:
        """All rows that stand of the views, as far as they can be told apart without reading vectors."""
        files = [(view, shard) for view in views for shard in self.view_shards(view.name).values()]
        tables = [self._opened[view.name][shard.file] for view, shard in files]
        lengths = [table.num_rows for table in tables]
        return StoredRows(
            keys=_joined(table.column("key") for table in tables),
            feature_keys=_joined(table.column("feature_key") for table in tables),
            present_N=np.concatenate([np.ones(0, bool), *(_present(table) for table in tables)]),
            file_N=np.repeat(np.arange(len(files)), lengths),
            row_N=np.concatenate([np.arange(0), *map(np.arange, lengths)]),
            files=files,
        )

    def _open(self, folder: str, shard: Shard, columns: list[str]) -> pa.Table | None:
        """Columns of a file of the version; None if somebody removed it: it is made again.

        Raises ShardError if it is damaged, or is not the one that was published.
        """
        path = self.folder / folder / shard.file
        if not path.exists():
            return None
        table = read_shard(path, columns)
        if table.num_rows != shard.num_rows:
            raise ShardError(
                f"shard {path} holds {table.num_rows} rows, the manifest says {shard.num_rows}: delete it and run "
                "'dvc repro'"
            )
        return table


def _shards_of(view: StoredView, manifest: Manifest) -> list[Shard]:
    return [replace(shard, file=view.files[shard.name], digest=view.digests[shard.name]) for shard in manifest.shards]


def _joined(columns: Iterator[pa.ChunkedArray]) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *(chunk for column in columns for chunk in column.chunks)])


def _present(table: pa.Table) -> np.ndarray:
    return np.asarray(pc.is_valid(table.column("embedding")).to_numpy())


def read_published(folder: Path) -> Published:
    """The version that the folder holds. Raises StoreError if it is of another format or not whole."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return Published(folder, None, {})
    manifest = parse_manifest(path.read_bytes(), folder)
    return Published(folder, manifest, _read_rejects(folder / manifest.rejects))


def _read_rejects(path: Path) -> dict[tuple[str, str], Reject]:
    if not path.is_file():
        raise StoreError(f"{path} is in the manifest but not on disk: run 'dvc checkout {path.parent}'")
    rejects = read_rejects(path)
    rows = rejects.filter(pc.equal(rejects.column("stage"), _REJECT_STAGE)).to_pylist()
    return {(_view_of(row["text"]), row["key"]): Reject(**row) for row in rows}


def renamed(reject: Reject, view: str, key: str) -> Reject:
    """The same reject of the same input under another view or key."""
    return replace(reject, key=key, text=reject.text.replace(f"view {_view_of(reject.text)}: ", f"view {view}: ", 1))


def _view_of(text: str) -> str:
    found = re.match(r"view (\w+): ", text)
    return found[1] if found else ""

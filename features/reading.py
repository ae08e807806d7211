"""Reading shards: each is memory-mapped on first use, checked against the manifest, and kept."""

import difflib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.encoders.base import Encoded
from features.errors import ShardError, StoreError
from features.files import StoreFiles, open_first
from features.manifest import SAMPLES_FOLDER, Manifest, view_schema
from features.sample import SAMPLE_SCHEMA
from features.shards import read_shard
from features.view import StoredView


class ShardReader:
    """The shards of one version of a store. A row is a sample's place in key order over all shards."""

    def __init__(self, files: StoreFiles, manifest: Manifest) -> None:
        self.files = files
        self.folder = files.folder
        self.views = manifest.views
        self.shards = [shard for shard in manifest.shards if shard.num_rows]
        self.starts = np.cumsum([0, *(shard.num_rows for shard in self.shards)])
        self._first_keys = [shard.first_key or "" for shard in self.shards]
        self._samples: dict[int, pa.Table] = {}
        self._columns: dict[tuple[str, int], pa.Table] = {}
        self._blocks: dict[str, dict[int, memoryview]] = {}
        self._rows: dict[str, int] = {}

    @property
    def num_rows(self) -> int:
        return int(self.starts[-1])

    def view(self, name: str) -> StoredView:
        """The view of this name. Raises StoreError with the nearest known one."""
        if name in self.views:
            return self.views[name]
        raise StoreError(
            f"{self.folder} has no view {name!r}{nearest(name, self.views)}; it has {', '.join(self.views)}"
        )

    def pooled_view(self, name: str) -> StoredView:
        """The view of this name if it keeps one vector a sample. Raises StoreError if it keeps sequences."""
        view = self.view(name)
        if view.is_sequence:
            raise StoreError(f"view {name!r} keeps sequences, not one vector a sample: read it with get_sequences()")
        return view

    def samples(self, index: int) -> pa.Table:
        """The sample table of a shard."""
        if index not in self._samples:
            name = f"{SAMPLES_FOLDER}/{self.shards[index].file}"
            self._samples[index] = self._open(name, index, SAMPLE_SCHEMA)
        return self._samples[index]

    def columns(self, name: str, index: int) -> pa.Table:
        """A view's table of a shard, each column in one piece."""
        if (name, index) not in self._columns:
            view, shard = self.view(name), self.shards[index]
            if shard.name not in view.files:
                raise ShardError(
                    f"view {name!r} of {self.folder} lists no shard {shard.name}: run 'dvc repro -f embed'"
                )
            schema = view_schema(dim=view.dim, dtype=view.dtype, is_sequence=view.is_sequence)
            table = self._open(f"{name}/{view.files[shard.name]}", index, schema)
            self._columns[name, index] = table.combine_chunks()
            if view.is_sequence:
                _check_lengths(self.folder / name / view.files[shard.name], self._columns[name, index])
        return self._columns[name, index]

    def vectors(self, name: str, index: int) -> np.ndarray:
        """[row, dim], a pooled view's shard over its memory map; NaN where absent."""
        embedding: Any = self.columns(name, index)["embedding"].chunk(0)
        return np.asarray(embedding.values.to_numpy(zero_copy_only=True)).reshape(-1, self.view(name).dim)

    def sequence_vectors(self, name: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """[vector, dim] and int64 [vector], all vectors of a sequence view's shard and the row each belongs to."""
        lists: Any = self.columns(name, index)["embedding"].chunk(0)
        lengths_N = lists.value_lengths().fill_null(0).to_numpy()
        vectors_VD = lists.flatten().flatten().to_numpy().reshape(-1, self.view(name).dim)
        return vectors_VD, np.repeat(np.arange(len(lists)), lengths_N)

    def present(self, name: str, index: int) -> np.ndarray:
        """bool [row], whether a shard's rows have an embedding in the view."""
        valid = self.columns(name, index)["embedding"].chunk(0).is_valid()
        return np.asarray(valid.to_numpy(zero_copy_only=False), dtype=bool)

    def gather(self, name: str, rows_N: np.ndarray) -> np.ndarray:
        """[n, dim], a pooled view at any rows in any order, in its stored dtype; NaN where absent."""
        view = self.view(name)
        dtype = np.dtype(view.dtype)
        width_bytes = view.dim * dtype.itemsize
        index_N, offsets_N = self._places(rows_N)
        blocks = self._bytes(name, set(index_N))
        starts_N = [offset * width_bytes for offset in offsets_N]
        # One join of byte ranges takes half the time of assigning row by row or of numpy shard by shard.
        places = zip(index_N, starts_N, strict=True)
        joined = bytearray().join([blocks[index][start : start + width_bytes] for index, start in places])
        return np.frombuffer(joined, dtype).reshape(-1, view.dim)

    def _bytes(self, name: str, indices: set[int]) -> dict[int, memoryview]:
        blocks = self._blocks.setdefault(name, {})
        for index in indices - blocks.keys():
            blocks[index] = self.vectors(name, index).data.cast("B")
        return blocks

    def gather_sequences(self, name: str, rows_N: np.ndarray) -> list[Encoded | None]:
        """The vectors and intervals of any rows of a sequence view, None where absent."""
        gathered: list[Encoded | None] = []
        for index, offset in zip(*self._places(rows_N), strict=True):
            columns = self.columns(name, index)
            embedding, *times = (columns[part][offset] for part in ("embedding", "start_s", "end_s"))
            if not embedding.is_valid:
                gathered.append(None)
                continue
            vectors: Any = embedding.values
            values_V = vectors.flatten().to_numpy().astype(np.float32, copy=False)
            times_T2 = np.stack([time.values.to_numpy() for time in times], axis=1)
            gathered.append(Encoded(values_V.reshape(len(vectors), self.view(name).dim), times_T2))
        return gathered

    def _places(self, rows_N: np.ndarray) -> tuple[list[int], list[int]]:
        """For each row its shard and its offset there."""
        index_N = np.searchsorted(self.starts, rows_N, side="right") - 1
        return index_N.tolist(), (rows_N - self.starts[index_N]).tolist()

    def locate(self, keys: Sequence[str]) -> np.ndarray:
        """int64 [key], the row of each key. Raises StoreError with the first unknown keys and what is near them.

        Only the shards that may hold a key are searched; what was read of them is remembered.
        """
        if isinstance(keys, str):
            raise StoreError(f"keys is the text {keys!r}; pass a list of keys")
        rows = self._rows
        try:
            return np.array([rows[key] for key in keys], dtype=np.int64)
        except KeyError:
            self._learn(key for key in keys if key not in rows)
        unknown = [key for key in keys if key not in rows]
        if unknown:
            listed = ", ".join(repr(key) for key in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            near = nearest(unknown[0], self._neighbours(unknown[0]))
            raise StoreError(f"{self.folder} has no {len(unknown)} of {len(keys)} keys: {listed}{near}")
        return np.array([rows[key] for key in keys], dtype=np.int64)

    def _learn(self, keys: Iterable[str]) -> None:
        for index in {bisect_right(self._first_keys, key) - 1 for key in keys} - {-1}:
            start = int(self.starts[index])
            for offset, key in enumerate(self.samples(index)["key"].to_pylist()):
                self._rows[str(key)] = start + offset

    def _neighbours(self, key: str) -> list[str]:
        index = bisect_right(self._first_keys, key) - 1
        around = range(max(index - 1, 0), min(index + 2, len(self.shards)))
        return [str(key) for shard in around for key in self.samples(shard)["key"].to_pylist()]

    def _open(self, name: str, index: int, schema: pa.Schema) -> pa.Table:
        path = self.folder / name
        table = open_first(self.files, name, read_shard)
        expected = self.shards[index].num_rows
        if table.num_rows != expected:
            raise ShardError(f"shard {path} holds {table.num_rows} rows, the manifest says {expected}: run 'dvc repro'")
        missing = [f"{field.name} of type {field.type}" for field in schema if field not in list(table.schema)]
        if missing:
            raise ShardError(f"shard {path} lacks {', '.join(missing)}: run 'dvc repro'")
        return table.select(schema.names)


def _check_lengths(path: Path, columns: pa.Table) -> None:
    """Arrow itself does not ask that the lists of a row are equally long."""
    lists: Any = [columns[part].chunk(0) for part in ("embedding", "start_s", "end_s")]
    vectors, *times = (column.value_lengths().fill_null(-1) for column in lists)
    if not all(vectors.equals(lengths) for lengths in times):
        raise ShardError(f"shard {path} has other numbers of vectors and times in a row: run 'plait check'")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message that suggests what is known and near; empty if nothing is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""

"""Reading shards: each is memory-mapped on first use, checked against the manifest, and kept."""

from collections.abc import Iterable
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.encoders.base import Encoded
from features.errors import ShardError, StoreError, nearest
from features.files import StoreFiles, open_first
from features.keys import KeySearch, texts
from features.manifest import SAMPLES_FOLDER, Manifest, parse_manifest, view_schema
from features.mapping import MappedVectors, root_of
from features.paging import paged
from features.recent import Recent
from features.rows import ShardOfRows
from features.sample import SAMPLE_SCHEMA, SPLITS, with_later_fields
from features.shards import Shard, read_shard
from features.view import StoredView

_KEPT_SAMPLES = 1024  # tables, of some 20 kilobytes
_KEPT_COLUMNS = 4096  # tables of views, of some 4 kilobytes
_KEPT_KEYS = 1024  # of shards
_MOST_MAPS = 24_576  # of vectors: with the tables and keys, half of what Linux lets a process have (vm.max_map_count)


class ShardReader:
    """The shards of one version of a store. A row is a sample's place in key order over all shards.

    A file is mapped when it is first asked for, and what was asked for last stays mapped: the vectors of 24,576 files,
    over all views, and tables over a few thousand. Memory holds half a kilobyte for each of the vectors', and no row,
    for pages that were read are the system's.
    Pickled, it opens the same version again.
    """

    def __init__(self, files: StoreFiles, manifest: Manifest) -> None:
        self.files = files
        self.folder = files.folder
        self.views = manifest.views
        self.shards = manifest.shards.filled()
        self.starts = paged([np.zeros(1), np.cumsum(self.shards.num_rows)], np.int64)
        self._samples: Recent[int, pa.Table] = Recent(_KEPT_SAMPLES)
        self._columns: Recent[tuple[str, int], pa.Table] = Recent(_KEPT_COLUMNS)
        self._keys: Recent[int, pa.Array] = Recent(_KEPT_KEYS)
        self._mapped: dict[str, MappedVectors] = {}
        self._search = KeySearch(self.shards, self.starts, files.folder, self._keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self.files,)

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

    @property
    def keeps_all(self) -> bool:
        """Whether the tables of all shards can be kept. Else whoever goes over all of them meets none again."""
        return len(self.shards) <= min(_KEPT_SAMPLES, _KEPT_COLUMNS // max(1, len(self.views)))

    def open_samples(self, index: int) -> pa.Table:
        """The sample table of a shard, mapped anew if it is not kept, and not kept."""
        return self._samples.get(index) or self._open(SAMPLES_FOLDER, self.shards[index].file, index, SAMPLE_SCHEMA)

    def samples(self, index: int) -> pa.Table:
        """The sample table of a shard; the last ones are kept, for whoever asks for them here and there."""
        return self._samples.get(index) or self._samples.keep(index, self.open_samples(index))

    @cached_property
    def row_splits(self) -> np.ndarray:
        """int8 [row], the place of each row's split in SPLITS, -1 of one that is none."""
        splits = pa.array(SPLITS)
        found = (pc.index_in(self.open_samples(index)["split"], splits) for index in range(len(self.shards)))
        return paged((part.fill_null(-1).to_numpy() for part in found), np.int8)

    @cached_property
    def all_rows(self) -> np.ndarray:
        """int64 [row], every row; not to be written to."""
        blocks = (np.arange(start, stop) for start, stop in pairwise(self.starts.tolist()))
        rows_N = paged(blocks, np.int64)
        rows_N.flags.writeable = False
        return rows_N

    def rows_of_split(self, split: str) -> np.ndarray:
        """int64 [row], rising."""
        place, bounds = SPLITS.index(split), pairwise(self.starts.tolist())
        blocks = (start + np.flatnonzero(self.row_splits[start:stop] == place) for start, stop in bounds)
        return paged(blocks, np.int64)

    def open_columns(self, name: str, index: int) -> pa.Table:
        """A view's table of a shard, each column in one piece; mapped anew if it is not kept, and not kept."""
        if (kept := self._columns.get((name, index))) is not None:
            return kept
        view = self.view(name)
        file = view.files[self.shards[index].name]
        schema = view_schema(dim=view.dim, dtype=view.dtype, is_sequence=view.is_sequence)
        table = self._open(name, file, index, schema).combine_chunks()
        if view.is_sequence:
            _check_lengths(self.folder / name / file, table)
        return table

    def columns(self, name: str, index: int) -> pa.Table:
        """A view's table of a shard, each column in one piece; the last ones are kept."""
        return self._columns.get((name, index)) or self._columns.keep((name, index), self.open_columns(name, index))

    def _open_vectors(self, name: str, index: int) -> np.ndarray:
        """[row, dim], a pooled view's shard, mapped anew; its keys, which are at hand then, are kept."""
        table, view = self.open_columns(name, index), self.views[name]
        self._keys.keep(index, table["key"].chunk(0))
        # Over the map itself: the table takes ten times as much memory, and a part of the map twice. And not by
        # pyarrow's to_numpy(), which imports pandas.
        numbers = table["embedding"].chunk(0).buffers()[-1]
        whole = root_of(numbers)
        return np.ndarray((len(table), view.dim), view.dtype, whole, offset=numbers.address - whole.address)

    def keys(self, index: int, view: str | None = None) -> pa.Array:
        """The keys of a shard, read from the view's file or, by default, from that of the samples."""
        if (kept := self._keys.get(index)) is not None:
            return kept
        if view is None:
            column = self.samples(index)["key"]
            return self._keys.keep(index, column.chunk(0) if column.num_chunks == 1 else column.combine_chunks())
        if self.views[view].is_sequence:
            return self._keys.keep(index, self.columns(view, index)["key"].chunk(0))  # asked for next
        self._maps(view).keep(index, self._open_vectors(view, index))  # which are asked for next
        return self.keys(index, view)

    def key_at(self, row: int) -> str:
        """The key of a row."""
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        return str(self.keys(index)[row - int(self.starts[index])].as_py())

    def vectors(self, name: str, index: int) -> np.ndarray:
        """[row, dim], a pooled view's shard over its memory map; NaN where absent."""
        return self._maps(name).vectors(index, partial(self._open_vectors, name))

    def sequence_vectors(self, name: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """[vector, dim] and int64 [vector], all vectors of a sequence view's shard and the row each belongs to."""
        lists: Any = self.open_columns(name, index)["embedding"].chunk(0)
        lengths_N = lists.value_lengths().fill_null(0).to_numpy()
        vectors_VD = lists.flatten().flatten().to_numpy().reshape(-1, self.view(name).dim)
        return vectors_VD, np.repeat(np.arange(len(lists)), lengths_N)

    def present(self, name: str, index: int) -> np.ndarray:
        """bool [row], whether a shard's rows have an embedding in the view."""
        valid = self.open_columns(name, index)["embedding"].chunk(0).is_valid()
        return np.asarray(valid.to_numpy(zero_copy_only=False), dtype=bool)

    def gather(self, name: str, rows_N: np.ndarray) -> np.ndarray:
        """[n, dim], a pooled view at any rows in any order, in its stored dtype; NaN where absent.

        rows_N: whole numbers of any type. Raises IndexError for a row that is not in the store.
        """
        rows_N = rows_N.astype(np.int64, copy=False)  # places in memory are computed from them, and must not overflow
        is_wrong_N = rows_N.view(np.uint64) >= self.num_rows  # one below 0 is a very large number then
        if np.count_nonzero(is_wrong_N):
            raise IndexError(f"row {rows_N[is_wrong_N][0]}; rows are counted from 0 to below {self.num_rows}")
        return self._maps(name).gather(rows_N, self._shard_of_rows[rows_N], partial(self._open_vectors, name))

    def get(self, name: str, keys: Iterable[str]) -> np.ndarray:
        """[key, dim], a pooled view at keys; else as gather() and locate()."""
        maps, keys = self._maps(name), texts(keys, "keys")
        fetched = self._search.fetch(keys, maps)
        if fetched is None:
            return self._gather_keys(name, keys)
        vectors_KD, places = fetched
        if len(places):
            vectors_KD[places] = self._gather_keys(name, [keys[place] for place in places.tolist()])
        return vectors_KD

    def _gather_keys(self, name: str, keys: Iterable[str]) -> np.ndarray:
        rows_K, shards_K = self._search.locate(keys, lambda index: self.keys(index, name))
        return self._maps(name).gather(rows_K, shards_K, partial(self._open_vectors, name))

    def places(self, name: str, rows_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        """A pooled view's numbers as one array over all maps; int64 [n], where the vectors of rows begin there; and
        what is to be held as long as they are read.

        rows_N: int64, of the store, at most rows_at_once(). What lies between the vectors must not be touched.
        """
        return self._maps(name).places(rows_N, self._shard_of_rows[rows_N], partial(self._open_vectors, name))

    def rows_at_once(self, name: str) -> int:
        """Of how many rows, wherever they are, all files of a pooled view can be mapped at once."""
        return self._maps(name).rows_at_once

    def _maps(self, name: str) -> MappedVectors:
        if name not in self._mapped:
            view = self.view(name)
            most_maps = max(2, _MOST_MAPS // sum(not view.is_sequence for view in self.views.values()))
            self._mapped.setdefault(name, MappedVectors(self.starts, view.dim, view.dtype, most_maps=most_maps))
        return self._mapped[name]

    @cached_property
    def _shard_of_rows(self) -> ShardOfRows:
        return ShardOfRows(self.starts)

    def gather_sequences(self, name: str, rows_N: np.ndarray) -> list[Encoded | None]:
        """The vectors and intervals of any rows of a sequence view, None where absent."""
        gathered: list[Encoded | None] = []
        for row, index in zip(rows_N.tolist(), self._shard_of_rows[rows_N].tolist(), strict=True):
            offset = row - int(self.starts[index])
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

    def locate(self, keys: Iterable[str], view: str | None = None) -> np.ndarray:
        """int64 [key], the row of each key. Raises StoreError with the first unknown keys and what is near them.

        view: whose files are read, for the files of the samples need not be where only its vectors are wanted.
        """
        rows_N: np.ndarray = self._search.locate(keys, lambda index: self.keys(index, view))[0]
        return rows_N

    def _open(self, folder: str, file: str, index: int, schema: pa.Schema) -> pa.Table:
        table = open_first(self.files, f"{folder}/{file}", read_shard)
        if folder == SAMPLES_FOLDER:
            table = with_later_fields(table)
        if wrong := _mismatch(table, self.shards[index], schema):
            raise ShardError(f"shard {self.folder / folder / file} {wrong}: run 'plait check'")
        return table if table.column_names == schema.names else table.select(schema.names)


def _mismatch(table: pa.Table, shard: Shard, schema: pa.Schema) -> str | None:
    """In which way a table is not that of the shard, if it is not; columns beside those of the schema do no harm."""
    if table.num_rows != shard.num_rows:
        return f"holds {table.num_rows} rows, the manifest says {shard.num_rows}"
    if not table.schema.equals(schema):
        missing = [f"{field.name} of type {field.type}" for field in schema if field not in list(table.schema)]
        if missing:
            return f"lacks {', '.join(missing)}"
    first, last = table["key"][0].as_py(), table["key"][-1].as_py()
    if (first, last) != (shard.first_key, shard.last_key):
        return f"goes from {first!r} to {last!r}, the manifest says from {shard.first_key!r} to {shard.last_key!r}"
    return None


def _open_again(files: StoreFiles) -> ShardReader:
    return ShardReader(files, parse_manifest(files.manifest, files.folder))


def _check_lengths(path: Path, columns: pa.Table) -> None:
    """Arrow itself does not ask that the lists of a row are equally long."""
    lists: Any = [columns[part].chunk(0) for part in ("embedding", "start_s", "end_s")]
    vectors, *times = (column.value_lengths().fill_null(-1) for column in lists)
    if not all(vectors.equals(lengths) for lengths in times):
        raise ShardError(f"shard {path} has other numbers of vectors and times in a row: run 'plait check'")

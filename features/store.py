"""The store: one version of all samples and their features, opened for reading."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.aligned import Aligned
from features.aligning import Aligner, TimeBase
from features.alignment import How
from features.columns import chosen_tables, empty_table
from features.encoders.base import Encoded
from features.errors import StoreError, nearest
from features.files import FolderFiles, StoreFiles, open_first
from features.keys import texts
from features.loader import Batches
from features.manifest import MANIFEST_FILE, parse_manifest
from features.nearest import Neighbours, Query
from features.order import EpochOrder
from features.reading import ShardReader
from features.sample import SPLITS
from features.shards import read_rejects
from features.view import StoredView

PROJECT_STORE = Path("data/features")  # where the stages of a project put it


def open_store(path: str | Path, *, rev: str | None = None) -> "Store":
    """Open a feature store: its own folder, or the folder of a project that has one in data/features.

    rev: a git revision of the project (a tag, a branch, a commit), whose version is read through DVC, from its cache
    or remote. Only the manifest is read. Raises StoreError if there is no store, or a newer Plait wrote it.
    """
    if rev is not None:
        from features.versions import open_revision

        return Store(open_revision(Path(path), rev))
    folder = Path(path)
    if not (folder / MANIFEST_FILE).is_file() and (folder / PROJECT_STORE / MANIFEST_FILE).is_file():
        folder = folder / PROJECT_STORE
    return Store(FolderFiles(folder))


class Store:
    """Samples and views in key order. Shards are memory-mapped when they are first asked for."""

    def __init__(self, files: StoreFiles) -> None:
        self.files = files
        self.folder = files.folder
        self.manifest = parse_manifest(files.manifest, self.folder)
        self.reader = ShardReader(files, self.manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it opens the same version again."""
        return Store, (self.files,)

    def __len__(self) -> int:
        return self.reader.num_rows

    @property
    def views(self) -> dict[str, StoredView]:
        """The views by name."""
        return self.manifest.views

    @cached_property
    def keys(self) -> list[str]:
        """All keys, sorted."""
        return [str(key) for key in self.samples["key"].to_pylist()]

    @cached_property
    def samples(self) -> pa.Table:
        """The sample table over the memory maps of its shards."""
        return self.table([])

    @cached_property
    def rejects(self) -> pa.Table:
        """What was lost on the way here: key, stage, reason, what was dropped, and the error's text."""
        return open_first(self.files, self.manifest.rejects, read_rejects)

    def table(self, views: Iterable[str], *, split: str | None = None, where: str | None = None) -> pa.Table:
        """Samples with a column a view beside them, in key order; an absent embedding is null.

        where: an SQL condition as in sql(). A shard that is taken whole is not copied. A view that has the name of a
        sample column is in <name>_embedding; a sequence's intervals are in <name>_start_s and <name>_end_s.
        Raises StoreError for an unknown view or split, QueryError for a condition that cannot be read.
        """
        rows_N = None if split is None and where is None else self.rows(split=split, where=where)
        views = texts(views, "views")
        parts = list(chosen_tables(self.reader, views, rows_N))
        return pa.concat_tables(parts) if parts else empty_table(self.reader, views)

    def rows(self, *, split: str | None = None, where: str | None = None) -> np.ndarray:
        """int64 [row], rising: places in key order of the samples of a split for which an SQL condition holds; not to
        be written to."""
        if split is not None and split not in SPLITS:
            raise StoreError(f"split {split!r} is none of {', '.join(SPLITS)}{nearest(split, SPLITS)}")
        if where is None:
            return self.reader.all_rows if split is None else self.reader.rows_of_split(split)
        from features.query import select_rows

        rows_N = select_rows(self.reader, lambda: self.rejects, where)
        return rows_N if split is None else rows_N[self.reader.row_splits[rows_N] == SPLITS.index(split)]

    def get(self, keys: Iterable[str], view: str) -> np.ndarray:
        """[key, dim] in the order of the keys and the view's dtype; the row of an absent embedding is NaN.

        Raises StoreError for unknown keys, an unknown view, or a view of sequences.
        """
        self.reader.pooled_view(view)
        return self.reader.get(view, keys)

    def scan(self, view: str) -> Iterator[np.ndarray]:
        """All vectors in key order as arrays [row, dim] over the memory maps, one a shard: nothing is copied.

        The row of an absent embedding is NaN. Raises StoreError for an unknown view or a view of sequences.
        """
        self.reader.pooled_view(view)
        return (self.reader.vectors(view, index) for index in range(len(self.reader.shards)))

    def get_sequences(self, keys: Iterable[str], view: str) -> list[Encoded | None]:
        """The vectors of each key with their intervals, None where the embedding is absent.

        Raises StoreError for unknown keys, an unknown view, or a view with one vector a sample.
        """
        if not self.reader.view(view).is_sequence:
            raise StoreError(f"view {view!r} keeps one vector a sample, not sequences: read it with get()")
        return self.reader.gather_sequences(view, self.reader.locate(keys, view))

    def align(
        self, keys: Iterable[str], views: Iterable[str], *, to: TimeBase, how: How | Mapping[str, How] = "mean"
    ) -> Aligned:
        """Views of any samples on one time base, in the order of the keys: see docs/alignment.md for the definitions.

        to: "word", the samples' words; "segment", each sample as one interval; the name of a view of sequences, its
        intervals; a number, windows of so many hertz from the sample's start, the last of which ends with the sample;
        or intervals of your own in seconds from the sample's start, [interval, (start, end)] or a list of an Arrow
        column a key. how: "mean" (weighted by overlap), "max", "nearest", "linear" or "unweighted" (the mean as
        CMU-MultimodalSDK takes it), or one for each view by name. A target that nothing covers is NaN and masked. A
        view with one vector a sample has it at all targets, and a view on its own time base stays as it is.
        Raises StoreError for unknown keys, views and time bases and for a view of sequences without any time here,
        ValueError for an unknown how and for intervals that end before they start.
        """
        aligner = Aligner(self.reader, views, to=to, how=how)
        rows_N = self.reader.locate(keys)
        aligner.require_clocks(rows_N)
        return aligner.align(rows_N)

    def align_batches(
        self,
        views: Iterable[str],
        *,
        to: str | float,
        how: How | Mapping[str, How] = "mean",
        split: str | None = None,
        where: str | None = None,
        batch_size: int = 256,
    ) -> Iterator[Aligned]:
        """All samples, or those of a split for which an SQL condition holds, on one time base as align() says.

        They come in key order, batch_size at a time, and memory holds no more than that.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        return Aligner(self.reader, views, to=to, how=how).batches(self.rows(split=split, where=where), batch_size)

    def nearest(
        self,
        view: str,
        query: Query | None = None,
        *,
        keys: str | Iterable[str] | None = None,
        k: int = 10,
        where: str | None = None,
        split: str | None = None,
        metric: str = "cosine",
        approximate: bool | None = None,
        include_self: bool = False,
    ) -> pa.Table:
        """The k samples nearest to a query: key, score, label and split, best first, of equal scores by key.

        query: a vector [dim], a text, an encoded image, Audio, Video or a file's Path, where the view's encoder takes
        it; keys: a sample of the store instead, which is no answer to itself unless include_self. Of several, a list
        or [query, dim], the column query tells which (the key, or the place). metric: "cosine" (0 where a vector has
        no length) or "dot". approximate: by an index and not by looking at all; by default for very large views. The
        table's schema metadata has the method and the index's recall.
        Raises QueryError for a vector of the wrong size or not finite, EncoderError for a query that the view cannot
        be asked with, StoreError for unknown keys, views and splits and for a view of sequences.
        """
        return self._neighbours.find(
            view,
            query,
            keys=keys,
            k=k,
            where=where,
            split=split,
            metric=metric,
            approximate=approximate,
            include_self=include_self,
        )

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self)

    def sql(self, query: str) -> pa.Table:
        """Run one SELECT in DuckDB over the relations samples and rejects.

        samples has the columns of table() with all views, vectors as float32. Raises QueryError if the query cannot
        be parsed or does anything but read these relations.
        """
        from features.query import run_query

        return run_query(self.reader, lambda: self.rejects, query)

    def export(
        self,
        format: str,  # noqa: A002  # what users call it
        path: str | Path,
        *,
        views: Iterable[str] | None = None,
        split: str | None = None,
        where: str | None = None,
        time: datetime | None = None,
    ) -> int:
        """Write samples with their views as parquet, lance, datasets or feast: see features.exports.export()."""
        from features.exports import export

        return export(self, format, path, views=views, split=split, where=where, time=time)

    def diff(self, other: "str | Store", *, num_keys: int | None = None) -> dict[str, Any]:
        """What changed from another version, a git revision or an opened store, to this one.

        num_keys: how many keys of each kind are listed; None lists all. What it gives: features.diff.diff_stores().
        """
        from features.diff import diff_stores
        from features.versions import open_beside

        old = Store(open_beside(self.files, other)) if isinstance(other, str) else other
        return diff_stores(old, self, num_keys=num_keys)

    def lineage(self, key: str) -> dict[str, Any]:
        """Where a sample comes from and where its rows are, or why it was lost: see features.lineage.trace().

        Raises StoreError with the nearest key if there is neither a sample nor a reject of this key.
        """
        from features.lineage import trace

        return trace(self, key)

    def batches(
        self,
        views: Iterable[str],
        *,
        split: str | None = "train",
        where: str | None = None,
        batch_size: int = 256,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        shuffle: bool = True,
        dtype: str | None = "float32",
    ) -> Batches:
        """Batches for training: each sample once an epoch over all ranks, resumable in the middle of one.

        Iterating gives numpy arrays; its loader() and torch() give tensors, over the ranks of torch.distributed where
        that is initialised and none is given here. dtype: of the vectors; None keeps the stored one.
        """
        order_seed = seed if shuffle else None
        rows_N = self.rows(split=split, where=where)
        order = EpochOrder(len(rows_N), batch_size=batch_size, seed=order_seed, rank=rank, world_size=world_size)
        return Batches(self.reader, rows_N, views, order=order, dtype=dtype)

    def webdataset(
        self, split: str = "train", *, shuffle: int = 1000, seed: int = 0, epoch: int = 0, decode: bool = False
    ) -> Any:
        """The packed shards of a split as a pipeline of the webdataset library, to be composed further.

        shuffle: samples that wait to be drawn from, 0 for the order of the keys. The order is that of seed and epoch;
        each further pass in the same process is the next epoch. Ranks and workers share whole shards. decode: arrays
        for vectors, images and sound (with its rate), str for text; video stays bytes.
        Raises StoreError if data/packed has no such shards, or those of another version.
        """
        from features.streaming import packed_shards, stream

        return stream(packed_shards(self, split), shuffle=shuffle, seed=seed, epoch=epoch, decode=decode)

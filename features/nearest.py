"""Nearest neighbours: which samples of a store are closest to a vector, a sample, a text, an image or a sound."""

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from features.encoders.base import Audio, Media, Video
from features.errors import EncoderError, QueryError, StoreError
from features.files import open_first
from features.joint import QueryEncoders
from features.keys import texts
from features.nearest_exact import exact_neighbours
from features.nearest_index import RECALL_AT, ViewIndex, pays_off
from features.nearest_rows import METRICS, Pairs, ViewRows
from features.reductions import apply_steps, read_fit
from features.sample import SAMPLE_SCHEMA

if TYPE_CHECKING:
    from features.store import Store

Query = np.ndarray | Media | Path | Sequence[Media | Path] | Sequence[float] | Sequence[Sequence[float]]
"""A vector [dim] or several [query, dim]; or a text, an encoded image, an Audio, a Video, a file; or a list of such."""

_SHOWN = ["key", "label", "split"]
_MEDIA = (str, bytes, Audio, Video, Path)


@dataclass(frozen=True)
class _Queries:
    """vectors_QD: float64 [query, dim]; names: what the column query holds, None for a single query; own_Q: int64
    [query], the row that a query is itself and that is no answer, -1 where it is none."""

    vectors_QD: np.ndarray
    names: pa.Array | None
    own_Q: np.ndarray


class Neighbours:
    """Nearest neighbours in one store. What a query needed stays for the next: lengths, an index, an encoder."""

    def __init__(self, store: "Store") -> None:
        # The store owns this: a cycle would keep the lock on its version until the garbage collector comes.
        self._store = weakref.proxy(store)
        self._views: dict[str, ViewRows] = {}
        self._indexes: dict[str, ViewIndex] = {}
        self._encoders = QueryEncoders()

    def find(
        self,
        view: str,
        query: Query | None,
        *,
        keys: str | Iterable[str] | None,
        k: int,
        where: str | None,
        split: str | None,
        metric: str,
        approximate: bool | None,
        include_self: bool,
    ) -> pa.Table:
        """See Store.nearest()."""
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        if metric not in METRICS:
            raise ValueError(f"metric is {metric!r}; it must be {' or '.join(METRICS)}")
        if keys is not None and query is not None:
            raise ValueError("there are both a query and keys: ask with one of them")
        if approximate and metric != "cosine":
            raise ValueError(f"approximate search is by cosine; search by {metric} with approximate=False")
        if view not in self._views:
            self._views[view] = ViewRows(self._store.reader, view)
        rows = self._views[view]
        queries = self._of_keys(rows, keys, include_self) if keys is not None else self._of_query(rows, query)
        rows_N = self._store.rows(split=split, where=where)
        if approximate is None:
            approximate = metric == "cosine" and pays_off(len(rows_N), rows.view.dim)
        num_wanted = k + int((queries.own_Q >= 0).any())
        about = {"view": view, "metric": metric, "method": "approximate" if approximate else "exact"}
        if approximate:
            index = self._index(rows)
            found = index.neighbours(queries.vectors_QD, rows_N, k=num_wanted)
            about |= {f"recall_at_{RECALL_AT}": str(index.measured.recall)}
            about |= {"recall_queries": str(index.measured.num_queries)}
        else:
            found = exact_neighbours(rows, queries.vectors_QD, rows_N, k=num_wanted, metric=metric)
        others = found.take(found.row_P != queries.own_Q[found.query_P])
        return self._table(others.take(others.best(k)), queries.names).replace_schema_metadata(about)

    def _of_keys(self, rows: ViewRows, keys: str | Iterable[str], include_self: bool) -> _Queries:
        listed = [keys] if isinstance(keys, str) else texts(keys, "keys")
        rows_Q = self._store.reader.locate(listed, rows.name)
        vectors_QD = rows.vectors(rows_Q)
        for key, vector_D in zip(listed, vectors_QD, strict=True):
            if not np.isfinite(vector_D).all():
                raise StoreError(f"sample {key!r} has no embedding in view {rows.name!r}: ask with another")
        names = None if isinstance(keys, str) else pa.array(listed, pa.string())
        return _Queries(vectors_QD, names, np.full(len(listed), -1) if include_self else rows_Q)

    def _of_query(self, rows: ViewRows, query: Query | None) -> _Queries:
        if query is None:
            raise ValueError("there is no query: give a vector, a text, an image, a sound, a file, or keys")
        vectors = self._encode(rows, query) if _is_media(query) else query
        asked = np.asarray(vectors, dtype=np.float64)
        view = rows.view
        if asked.ndim not in (1, 2) or asked.shape[-1] != view.dim:
            raise QueryError(
                f"the query has the shape {list(asked.shape)}; a vector of view {view.name!r} has {view.dim} numbers: "
                f"ask with [{view.dim}], or with [query, {view.dim}]"
            )
        if not np.isfinite(asked).all():
            raise QueryError("the query holds NaN or infinity: ask with finite numbers")
        vectors_QD = np.atleast_2d(asked)
        names = pa.array(np.arange(len(vectors_QD))) if asked.ndim == 2 else None
        return _Queries(vectors_QD, names, np.full(len(vectors_QD), -1))

    def _encode(self, rows: ViewRows, query: Any) -> np.ndarray:
        """float64 [dim] of one medium, [query, dim] of a list; reduced as the view's own rows were."""
        view, store = rows.view, self._store
        base = store.views[view.base] if view.base else view
        try:
            vectors = self._encoders.encode(base, [query] if isinstance(query, _MEDIA) else list(query))
        except EncoderError as error:
            if isinstance(query, str) and self._is_key(query):
                raise EncoderError(f"{error}; {query!r} is a key: ask with keys={query!r}") from error
            raise
        if view.fit_file:
            vectors = apply_steps(open_first(store.files, f"{view.name}/{view.fit_file}", read_fit), vectors)
        return vectors[0] if isinstance(query, _MEDIA) else vectors

    def _is_key(self, text: str) -> bool:
        try:
            self._store.reader.locate([text])
        except StoreError:
            return False
        return True

    def _index(self, rows: ViewRows) -> ViewIndex:
        if rows.name not in self._indexes:
            self._indexes[rows.name] = ViewIndex(rows)
        return self._indexes[rows.name]

    def _table(self, found: Pairs, names: pa.Array | None) -> pa.Table:
        samples = self._samples(found.row_P)
        columns = {"key": samples["key"], "score": pa.array(found.score_P)}
        columns |= {name: samples[name] for name in _SHOWN[1:]}
        if names is not None:
            columns = {"query": names.take(pa.array(found.query_P)), **columns}
        return pa.table(columns)

    def _samples(self, rows_P: np.ndarray) -> pa.Table:
        """What is shown of the samples at the rows, in their order."""
        reader = self._store.reader
        shards, place_P = np.unique(np.searchsorted(reader.starts, rows_P, side="right") - 1, return_inverse=True)
        tables = [reader.samples(shard) for shard in shards.tolist()]
        starts = np.cumsum([0, *map(len, tables)])[:-1]
        offset_P = rows_P - reader.starts[shards][place_P]
        shown = pa.concat_tables([SAMPLE_SCHEMA.empty_table(), *tables]).select(_SHOWN)
        return shown.take(pa.array(starts[place_P] + offset_P))


def _is_media(query: Any) -> bool:
    if isinstance(query, list | tuple):
        return any(isinstance(part, _MEDIA) for part in query)
    return isinstance(query, _MEDIA)

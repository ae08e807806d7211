"""The embeddings of a view as a search sees them: by row, in blocks of float32, and scored exactly in pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from features.paging import paged_zeros
from features.reading import ShardReader
from features.recent import Recent

if TYPE_CHECKING:
    from torch import Tensor

METRICS = ("cosine", "dot")
_PAIRS_AT_ONCE = 64  # in float64 they stay in the processor's cache
_LOOP_PAYS_OFF = 1 << 26  # numbers: it saves 10 ms a search, and takes a second to load
_LOOP_QUERIES = 8  # from about 12 on torch is faster
_KEPT_TENSORS = 1024  # over the maps of shards, of some 2 kilobytes
_UNKNOWN = -1.0


@dataclass(frozen=True)
class Pairs:
    """query_P, row_P: int64 [pair]; score_P: float32 [pair]."""

    query_P: np.ndarray
    row_P: np.ndarray
    score_P: np.ndarray

    def __len__(self) -> int:
        return len(self.row_P)

    def take(self, chosen_P: np.ndarray) -> "Pairs":
        """The pairs at these places, or where a mask holds."""
        return Pairs(self.query_P[chosen_P], self.row_P[chosen_P], self.score_P[chosen_P])

    def best(self, k: int) -> np.ndarray:
        """Places of the k best of each query, by query, then best first; of equal scores the first in key order."""
        places_P = np.lexsort((self.row_P, -self.score_P, self.query_P))
        queries_P = self.query_P[places_P]
        return places_P[np.arange(len(places_P)) - np.searchsorted(queries_P, queries_P) < k]


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of all parts, one after the other."""
    none = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    columns = ("query_P", "row_P", "score_P")
    return Pairs(*(np.concatenate([getattr(part, name) for part in [none, *parts]]) for name in columns))


class Piece(NamedTuple):
    """Rows of one shard: low and high are their places among the rows that are searched."""

    shard: int
    low: int
    high: int


class ViewRows:
    """The embeddings of a view with one vector a sample; remembers their lengths."""

    def __init__(self, reader: ShardReader, name: str) -> None:
        """Raises StoreError for an unknown view or one of sequences."""
        self.name = name
        self.view = reader.pooled_view(name)
        self.norms_N = paged_zeros(reader.num_rows, np.float32)
        self.norms_N.fill(_UNKNOWN)
        self.num_rows = reader.num_rows
        self._reader = reader
        self.rows_at_once = reader.rows_at_once(name)
        self._tensors: Recent[int, Tensor] = Recent(_KEPT_TENSORS)

    @property
    def shard_digests(self) -> list[str]:
        """sha256 of the view's files in key order."""
        return [self.view.digests[shard.name] for shard in self._reader.shards]

    def present_rows(self) -> np.ndarray:
        """int64 [row], rising: those that have an embedding."""
        present = [self._reader.present(self.name, shard) for shard in range(len(self._reader.shards))]
        return np.flatnonzero(np.concatenate([np.empty(0, bool), *present]))

    def cut(self, rows_N: np.ndarray, most_rows: int) -> list[Piece]:
        """The rising rows in pieces of at most most_rows."""
        if not len(rows_N):
            return []
        first, last = np.searchsorted(self._reader.starts, rows_N[[0, -1]], side="right") - 1
        bounds = np.searchsorted(rows_N, self._reader.starts[first : last + 2]).tolist()
        parts = [(first + place, *part) for place, part in enumerate(pairwise(bounds)) if part[0] < part[1]]
        return [
            Piece(shard, low, min(low + most_rows, stop))
            for shard, start, stop in parts
            for low in range(start, stop, most_rows)
        ]

    def load(self, rows_N: np.ndarray, buffer_BD: "Tensor") -> Iterator["Tensor"]:
        """The rising rows as float32 [row, dim], in turn: widened into the buffer, or where they lie if they are
        float32. What is yielded holds until the next is asked for.
        """
        filled = 0
        for shard, low, high in self.cut(rows_N, buffer_BD.shape[0]):
            stored_PD = self._stored(shard, rows_N[low:high])
            if stored_PD.dtype == buffer_BD.dtype:
                yield stored_PD
                continue
            if filled + high - low > buffer_BD.shape[0]:
                yield buffer_BD[:filled]
                filled = 0
            buffer_BD[filled : filled + high - low].copy_(stored_PD)
            filled += high - low
        if filled:
            yield buffer_BD[:filled]

    def widen(self, rows_N: np.ndarray, buffer_BD: "Tensor") -> Iterator["Tensor"]:
        """The same of float16 embeddings by a loop made for it; of one that is not finite, any numbers."""
        from features.nearest_kernels import widen_rows

        numbers, places_N, _maps = self._reader.places(self.name, rows_N)
        for start in range(0, len(rows_N), buffer_BD.shape[0]):
            block_PD = buffer_BD[: len(rows_N) - start]
            widen_rows(numbers.view(np.int16), places_N[start : start + len(block_PD)], block_PD.numpy())
            yield block_PD

    def _stored(self, shard: int, rows_P: np.ndarray) -> "Tensor":
        import torch

        stored_ND = self._tensors.get(shard)
        if stored_ND is None:
            # By DLPack, since torch warns of read-only memory in numpy's hands; nothing writes to it.
            values = pa.array(self._reader.vectors(self.name, shard).reshape(-1))
            tensor: Tensor = torch.utils.dlpack.from_dlpack(values)
            stored_ND = self._tensors.keep(shard, tensor.view(-1, self.view.dim))
        start = int(self._reader.starts[shard])
        first, stop = int(rows_P[0]) - start, int(rows_P[-1]) - start + 1
        if stop - first == len(rows_P):
            return stored_ND if len(rows_P) == stored_ND.shape[0] else stored_ND[first:stop]
        return stored_ND.index_select(0, torch.from_numpy(rows_P - start))

    def has_loop(self, num_rows: int, num_queries: int) -> bool:
        """Whether so many rows are multiplied with so many queries by a loop made for it."""
        return self.view.dtype == "float16" and self.is_large(num_rows) and num_queries <= _LOOP_QUERIES

    def is_large(self, num_rows: int) -> bool:
        """Whether a search of so many rows is worth loading compiled loops for."""
        return num_rows * self.view.dim >= _LOOP_PAYS_OFF

    def multiply(self, rows_B: np.ndarray, queries_QD: np.ndarray, products_BQ: np.ndarray) -> None:
        """Write the products of float16 embeddings with queries, both float32; of one not finite, any number."""
        from features.nearest_kernels import multiply_rows

        numbers, places_B, _maps = self._reader.places(self.name, rows_B)
        multiply_rows(numbers.view(np.int16), places_B, queries_QD, products_BQ)

    def known_norms(self, rows_B: np.ndarray) -> np.ndarray | None:
        """float32 [row], the lengths of embeddings, NaN where absent; None if any is not known yet."""
        norms_B = self.norms_N[rows_B]
        return None if (norms_B == _UNKNOWN).any() else norms_B

    def vectors(self, rows_P: np.ndarray, dtype: type[np.floating[Any]] = np.float64) -> np.ndarray:
        """[n, dim] at any rows; NaN where absent."""
        return self._reader.gather(self.name, rows_P).astype(dtype)

    def score(self, pairs: Pairs, queries_QD: np.ndarray, metric: str) -> Pairs:
        """The pairs with their scores taken in float64 and rounded once; a cosine with a vector of length 0 is 0.

        Equal embeddings have equal scores, wherever they stand.
        """
        lengths_Q = np.sqrt(np.vecdot(queries_QD, queries_QD))
        scores = [np.empty(0)]
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            query_P = pairs.query_P[start : start + _PAIRS_AT_ONCE]
            vectors_PD = self.vectors(pairs.row_P[start : start + _PAIRS_AT_ONCE])
            scores_P = np.vecdot(vectors_PD, queries_QD[query_P])
            if metric == "cosine":
                lengths_P = np.sqrt(np.vecdot(vectors_PD, vectors_PD)) * lengths_Q[query_P]
                scores_P = np.divide(scores_P, lengths_P, out=np.zeros_like(scores_P), where=lengths_P > 0)
            scores.append(scores_P)
        return Pairs(pairs.query_P, pairs.row_P, np.concatenate(scores).astype(np.float32))

"""Exact nearest neighbours: every embedding is looked at, in blocks that stay in the processor's cache.

A block is widened to float32 and multiplied, in one go where there are few queries; what may belong to the answer
is scored once more in float64. So the answer is a function of the embeddings and the query alone: not of blocks,
threads or other queries.
"""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from features.nearest_rows import Pairs, ViewRows, join_pairs

if TYPE_CHECKING:
    from torch import Tensor

_PIECE_BYTES = 3 << 20  # of float32: larger than a core's own cache, since a product takes time to begin
_SCORES_BYTES = 1 << 21
_BLOCK_ROWS = 32768
_ROWS_A_THREAD = 4096  # fewer are not worth another
_QUERIES_AT_ONCE = 1024  # bounds the scores of a block
_MOST_UNSETTLED = 4096
_SHORT = 2.0**-80
_TINY = float(np.finfo(np.float32).tiny)

Result = TypeVar("Result")


def exact_neighbours(view: ViewRows, queries_QD: np.ndarray, rows_N: np.ndarray, *, k: int, metric: str) -> Pairs:
    """The k best of the rows for each query, by query, then best first; of equal scores the first in key order.

    queries_QD: float64 [query, dim], finite; rows_N: int64 [row], strictly rising. An embedding that is absent, or
    whose length is not finite in float32, is never among them.
    """
    parts = []
    for start in range(0, len(queries_QD), _QUERIES_AT_ONCE):
        found = _search(view, queries_QD[start : start + _QUERIES_AT_ONCE], rows_N, k, metric)
        parts.append(Pairs(found.query_P + start, found.row_P, found.score_P))
    return join_pairs(parts)


def _search(view: ViewRows, queries_QD: np.ndarray, rows_N: np.ndarray, k: int, metric: str) -> Pairs:
    import torch

    block_rows = max(_piece_rows(view), min(_BLOCK_ROWS, _SCORES_BYTES // (4 * len(queries_QD))))
    block_rows = min(block_rows, view.rows_at_once)
    num_threads = max(1, min(torch.get_num_threads(), len(rows_N) // _ROWS_A_THREAD))
    num_rounds = max(1, math.ceil(len(rows_N) / (num_threads * block_rows)))
    blocks = deque(rows_B for rows_B in np.array_split(rows_N, num_threads * num_rounds) if len(rows_B))
    has_loop = view.has_loop(len(rows_N), len(queries_QD))

    def scan() -> _Scan:
        share = _Scan(view, queries_QD, k=k, metric=metric, block_rows=block_rows, has_loop=has_loop)
        while True:
            try:
                rows_B = blocks.popleft()
            except IndexError:  # none is left
                return share
            share.look(rows_B)

    shares = _in_threads(scan, num_threads)
    threshold_Q = np.max([share.threshold_Q for share in shares], axis=0)
    found = join_pairs([share.candidates() for share in shares])
    scored = view.score(found.take(found.score_P > threshold_Q[found.query_P]), queries_QD, metric)
    return scored.take(scored.best(k))


def _piece_rows(view: ViewRows) -> int:
    return max(1, _PIECE_BYTES // (4 * view.view.dim))


def _in_threads(work: Callable[[], Result], num_threads: int) -> list[Result]:
    """What work gives in each of the threads, of which this is one.

    Torch's own threads would wait for each other after every step: where other programs want the processor too, that
    makes a search ten times as long.
    """
    import torch

    if num_threads <= 1:
        return [work()]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(num_threads - 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            others = [pool.submit(work) for _ in range(num_threads - 1)]
            torch.set_num_threads(1)
            return [work(), *(other.result() for other in others)]
    finally:
        torch.set_num_threads(before)


class _Scan:
    """One thread's share of a search: its buffers, and what of its blocks may belong to the answer.

    Queries have length 1 here, and a score is the most that the true one can be, since float32 rounds.
    threshold_Q: float32 [query], the least that the k-th best true score can be.
    """

    def __init__(
        self, view: ViewRows, queries_QD: np.ndarray, *, k: int, metric: str, block_rows: int, has_loop: bool
    ) -> None:
        import torch

        self._view, self._queries_QD, self._k, self._metric, self._has_loop = view, queries_QD, k, metric, has_loop
        lengths_Q = np.sqrt((queries_QD**2).sum(axis=1, keepdims=True))
        units_QD = np.divide(queries_QD, lengths_Q, out=np.zeros_like(queries_QD), where=lengths_Q > 0)
        self._units_QD = units_QD.astype(np.float32)
        self._piece_PD = torch.empty(_piece_rows(view), view.view.dim)
        self._scores_BQ = torch.empty(block_rows, len(queries_QD))
        self._is_large = view.is_large(view.num_rows)
        self._has_widening = self._is_large and view.view.dtype == "float16"
        self._places = np.empty(block_rows * len(queries_QD) if self._is_large else 0, np.int64)
        self._relative_error = _error_of_product(view.view.dim)
        self._largest_error = 0.0
        self._found: list[Pairs] = []
        self._num_found, self._most_found = 0, 2 * k * len(queries_QD)
        self.threshold_Q = np.full(len(queries_QD), -math.inf, np.float32)

    def look(self, rows_B: np.ndarray) -> None:
        """Score the rows and keep those that may belong to the answer."""
        scores_BQ = self._scores_BQ[: len(rows_B)]
        norms_B = self._multiply(rows_B, scores_BQ)
        # What is absent, or too long, gets a score that is no number, and is above nothing.
        scales_B = np.where(np.isfinite(norms_B), np.float32(1), np.float32(math.nan))
        error = self._relative_error
        if self._metric == "cosine":
            scales_B /= np.maximum(norms_B, _TINY)
            if len(short_S := np.flatnonzero((norms_B > 0) & (norms_B < _SHORT))):
                self._settle_short(rows_B, scores_BQ, short_S)
                scales_B[short_S] = 1
        else:
            error *= float(np.nan_to_num(norms_B, posinf=0).max())
        self._largest_error = max(self._largest_error, error + _TINY)
        self._keep(rows_B, scores_BQ, scales_B, error)

    def _multiply(self, rows_B: np.ndarray, scores_BQ: "Tensor") -> np.ndarray:
        """Write the products with the queries; gives float32 [row], the lengths."""
        import torch

        known_B = self._view.known_norms(rows_B)
        if self._has_loop and known_B is not None:
            self._view.multiply(rows_B, self._units_QD, scores_BQ.numpy())
            return known_B
        norms_B = np.empty(len(rows_B), np.float32) if known_B is None else known_B
        units_DQ = torch.from_numpy(self._units_QD).T
        # The square of a float32 may be too large or too small for another.
        precision = torch.float64 if self._view.view.dtype == "float32" else torch.float32
        start = 0
        load = self._view.load if known_B is None or not self._has_widening else self._view.widen
        for block_PD in load(rows_B, self._piece_PD):
            stop = start + block_PD.shape[0]
            torch.mm(block_PD, units_DQ, out=scores_BQ[start:stop])
            if known_B is None:
                norms_B[start:stop] = torch.linalg.vector_norm(block_PD, dim=1, dtype=precision).float().numpy()
            start = stop
        if known_B is None:
            self._view.norms_N[rows_B] = norms_B
        return norms_B

    def _settle_short(self, rows_B: np.ndarray, scores_BQ: "Tensor", short_S: np.ndarray) -> None:
        """Score embeddings exactly whose products with a query may be too small for float32."""
        import torch

        num_queries = len(self._queries_QD)
        query_P, row_P = np.tile(np.arange(num_queries), len(short_S)), np.repeat(rows_B[short_S], num_queries)
        pairs = Pairs(query_P, row_P, np.zeros(len(row_P), np.float32))
        score_P = self._view.score(pairs, self._queries_QD, self._metric).score_P
        scores_BQ[torch.from_numpy(short_S)] = torch.from_numpy(score_P).reshape(len(short_S), num_queries)

    def _keep(self, rows_B: np.ndarray, scores_BQ: "Tensor", scales_B: np.ndarray, error: float) -> None:
        """scales_B: float32 [row], what the scores are to be multiplied with."""
        num_queries, is_enough = len(self.threshold_Q), len(rows_B) >= self._k
        if is_enough and (self.threshold_Q == -math.inf).all():  # all are above it
            self._raise_to_best(scores_BQ, scales_B, error)
        places_P = self._above_threshold(scores_BQ, scales_B, error)
        if is_enough and len(places_P) > 2 * self._k * num_queries:
            self._raise_to_best(scores_BQ, scales_B, error)
            places_P = self._above_threshold(scores_BQ, scales_B, error)
        if not len(places_P):
            return
        offset_P, query_P = np.divmod(places_P, num_queries)
        scores_P = scores_BQ.numpy().reshape(-1)[places_P] * scales_B[offset_P] + np.float32(error)
        self._found.append(Pairs(query_P, rows_B[offset_P], scores_P))
        self._num_found += len(places_P)
        if self._num_found > self._most_found:
            self._tighten()

    def _raise_to_best(self, scores_BQ: "Tensor", scales_B: np.ndarray, error: float) -> None:
        best_QK = _scaled(scores_BQ, scales_B).T.contiguous().topk(self._k).values  # faster than along the rows
        self._raise_threshold(np.arange(len(best_QK)), best_QK[:, -1].numpy() + np.float32(error))

    def _above_threshold(self, scores_BQ: "Tensor", scales_B: np.ndarray, error: float) -> np.ndarray:
        """Places in the flat scores."""
        least_Q = self.threshold_Q - np.float32(error)
        if self._is_large:
            from features.nearest_kernels import find_above

            return self._places[: find_above(scores_BQ.numpy(), scales_B, least_Q, self._places)]
        return np.flatnonzero(_scaled(scores_BQ, scales_B).numpy() > least_Q)

    def _raise_threshold(self, query_H: np.ndarray, worst_H: np.ndarray) -> None:
        """worst_H: float32 [query], the k-th best score of each of the queries so far."""
        least_H = worst_H - np.float32(2 * self._largest_error)
        self.threshold_Q[query_H] = np.maximum(self.threshold_Q[query_H], least_H)

    def _tighten(self) -> None:
        """Forget what cannot belong to the answer; where too much is within the error of float32, settle it exactly."""
        best = self.candidates()
        best = best.take(best.best(self._k))
        queries_F, counts_F = np.unique(best.query_P, return_counts=True)
        full_F = counts_F == self._k
        self._raise_threshold(queries_F[full_F], best.score_P[np.cumsum(counts_F) - 1][full_F])
        found = self.candidates()
        num_wanted = self._k * len(self.threshold_Q)
        if len(found) > _MOST_UNSETTLED + 4 * num_wanted:
            found = found.take(self._view.score(found, self._queries_QD, self._metric).best(self._k))
        self._found, self._num_found = [found], len(found)
        self._most_found = len(found) + num_wanted

    def candidates(self) -> Pairs:
        """What has been found and may belong to the answer."""
        found = join_pairs(self._found)
        return found.take(found.score_P > self.threshold_Q[found.query_P])


def _scaled(scores_BQ: "Tensor", scales_B: np.ndarray) -> "Tensor":
    """What is no number gives the least."""
    import torch

    return (scores_BQ * torch.from_numpy(scales_B)[:, None]).nan_to_num_(-math.inf, math.inf, -math.inf)


def _error_of_product(dim: int) -> float:
    """How far a product of two vectors of length 1 can be off, as torch is set to multiply."""
    import torch

    rounded = {"bf16": 2.0**-7, "tf32": 2.0**-9}
    # Rounding errors add up like the square root of their number, here with eight times as much room.
    precision = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]  # the module makes it itself
    return rounded.get(precision, 2.0**-21 * math.sqrt(dim))

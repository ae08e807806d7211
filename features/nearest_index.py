"""Approximate nearest neighbours: an index finds candidates, and the store itself scores them.

The index keeps one bit a dimension, in lists of near embeddings (IVF with RaBitQ, by faiss): a tenth of the bytes of
float16, and built in a fifth of the time that a graph takes. Faiss rather than usearch, since it filters while it
searches. Scores are exact; what the index can miss is measured when it is built.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import StoreError
from features.nearest_exact import exact_neighbours
from features.nearest_rows import Pairs, ViewRows
from features.rev import digest_json, library_versions
from features.shards import replacing, write_json

if TYPE_CHECKING:
    import torch

RECALL_AT = 10
_WANTED_RECALL = 0.95
_MEASURED_QUERIES = 256
_FEWEST_PROBES = 8
_FEWEST_CANDIDATES, _MOST_CANDIDATES = 4, 128  # for each neighbour: the bits alone order them roughly
_TRAINED_ROWS = 64  # for each list, in so many rounds:
_ROUNDS = 10
_ADDED_ROWS = 4096
_UNUSED_DAYS = 30
_LARGEST_EXACT = 1 << 30
"""Numbers in the embeddings that are searched, up to which exact search is the default. Two cores need about half a
second for so many, and build an index in the time of a few hundred such queries."""


@dataclass(frozen=True)
class Effort:
    """How many lists are searched, and how many candidates for each neighbour are scored."""

    num_probes: int
    num_candidates: int

    def greater(self, num_lists: int) -> "list[Effort]":
        """The next ones, with more of either."""
        probes = replace(self, num_probes=min(2 * self.num_probes, num_lists))
        candidates = replace(self, num_candidates=min(2 * self.num_candidates, _MOST_CANDIDATES))
        return [effort for effort in (probes, candidates) if effort != self]


@dataclass(frozen=True)
class Measured:
    """Which share of the true RECALL_AT neighbours the effort finds, for a sample of the view's own embeddings."""

    recall: float
    num_queries: int
    effort: Effort


def pays_off(num_rows: int, dim: int) -> bool:
    """Whether so many embeddings are searched by an index unless exact search is asked for."""
    return num_rows * dim > _LARGEST_EXACT and find_spec("faiss") is not None


class ViewIndex:
    """The index of one version of a view, in the user's cache folder; it is built when it is not there."""

    def __init__(self, view: ViewRows) -> None:
        """Raises StoreError if faiss is missing or the index cannot be written."""
        if find_spec("faiss") is None:
            raise StoreError(
                "approximate search needs the package faiss-cpu: pip install -e '.[ann]', or search exactly"
            )
        self._view = view
        path = _cache_folder() / f"{_digest(view)}.faiss"
        about = path.with_suffix(".json")  # written last: where it is, the index is whole
        if not (path.is_file() and about.is_file()):
            _build(view, path, about)
        os.utime(path)
        self._index = _read(path)
        measured = json.loads(about.read_text())
        self.measured = Measured(**{**measured, "effort": Effort(**measured["effort"])})

    def neighbours(self, queries_QD: np.ndarray, rows_N: np.ndarray, *, k: int) -> Pairs:
        """About the k best of the rows by cosine for each query, as exact_neighbours() orders and scores them.

        Where the rows are a part of the view, as many more lists are searched, so that about as many of them are seen.
        """
        found = _search(self._index, self._view, queries_QD, rows_N, k=k, effort=self.measured.effort)
        return found.take(found.best(k))


def _search(index: Any, view: ViewRows, queries_QD: np.ndarray, rows_N: np.ndarray, *, k: int, effort: Effort) -> Pairs:
    """Candidates with their scores; all lists are searched where fewer do not give every query k."""
    import faiss

    chosen: dict[str, Any] = {}
    num_probes = effort.num_probes
    if len(rows_N) < view.num_rows:
        is_chosen_N = np.zeros(view.num_rows, bool)
        is_chosen_N[rows_N] = True
        chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(is_chosen_N, bitorder="little"))
        num_probes = math.ceil(num_probes * view.num_rows / max(1, len(rows_N)))
    units_QD = _units(queries_QD).astype(np.float32)
    for tried in (min(num_probes, index.nlist), index.nlist):
        parameters = faiss.IVFRaBitQSearchParameters(nprobe=tried, qb=index.qb, **chosen)
        _, row_QC = index.search(units_QD, effort.num_candidates * k, params=parameters)
        if ((row_QC >= 0).sum(axis=1) >= k).all():
            break
    query_P, place_P = np.nonzero(row_QC >= 0)
    candidates = Pairs(query_P, row_QC[query_P, place_P], np.zeros(len(query_P), np.float32))
    return view.score(candidates, queries_QD, "cosine")


def _units(vectors_ND: np.ndarray) -> np.ndarray:
    lengths_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return np.divide(vectors_ND, lengths_N, out=np.zeros_like(vectors_ND), where=lengths_N > 0)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plait" / "nearest"


def _digest(view: ViewRows) -> str:
    """Of the bytes of the view's shards and of all that makes the index from them."""
    recipe = [_WANTED_RECALL, _MEASURED_QUERIES, _FEWEST_PROBES, _MOST_CANDIDATES, _TRAINED_ROWS, _ROUNDS]
    return digest_json([view.shard_digests, view.view.dim, recipe, library_versions(["faiss-cpu"])])


def _read(path: Path) -> Any:
    import faiss

    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        path.unlink(missing_ok=True)
        raise StoreError(f"the index {path} was damaged and is removed: ask again to have it built") from error


def _build(view: ViewRows, path: Path, about: Path) -> None:
    """Write the index and what it finds, each under a temporary name first; and remove indexes nobody uses."""
    import faiss

    rows_N = view.present_rows()
    if not len(rows_N):
        raise StoreError(f"view {view.name!r} has no embedding to find: nothing is near to anything")
    started_s = time.monotonic()
    sys.stderr.write(f"plait: building the index of the {len(rows_N):,} embeddings of {view.name!r}, once\n")
    index = _train(view, rows_N)
    for block_rows_B, block_BD in _blocks(view, rows_N):
        index.add_with_ids(_units(block_BD.numpy()), block_rows_B)
    measured = _measure(index, view, rows_N)
    with replacing(path) as temporary:
        try:
            faiss.write_index(index, str(temporary))
        except RuntimeError as error:
            raise StoreError(f"the index cannot be written to {path.parent}: {str(error)[-100:]}") from error
    write_json(about, asdict(measured))
    sys.stderr.write(
        f"plait: built in {time.monotonic() - started_s:.0f} s: recall@{RECALL_AT} {measured.recall:.3f} on "
        f"{measured.num_queries} of them; {path} has {path.stat().st_size / 1e6:.1f} MB\n"
    )
    _remove_unused(path.parent)


def _train(view: ViewRows, rows_N: np.ndarray) -> Any:
    """An empty index, its lists placed by a sample of the rows."""
    import faiss

    num_lists = max(1, math.isqrt(len(rows_N)))
    index = faiss.index_factory(view.view.dim, f"IVF{num_lists},RaBitQ", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.min_points_per_centroid = _ROUNDS, 1
    index.train(_units(view.vectors(_sample(rows_N, num_lists * _TRAINED_ROWS), np.float32)))
    return index


def _sample(rows_N: np.ndarray, most_rows: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.sort(generator.choice(rows_N, min(most_rows, len(rows_N)), replace=False))


def _blocks(view: ViewRows, rows_N: np.ndarray) -> Iterator[tuple[np.ndarray, "torch.Tensor"]]:
    """The rows and their embeddings, float32 [row, dim], a bounded number at a time."""
    import torch

    buffer_BD = torch.empty(_ADDED_ROWS, view.view.dim)
    start = 0
    for block_BD in view.load(rows_N, buffer_BD):
        stop = start + block_BD.shape[0]
        yield rows_N[start:stop], block_BD
        start = stop


def _measure(index: Any, view: ViewRows, rows_N: np.ndarray) -> Measured:
    """Search with more and more effort until enough of the true neighbours of a sample is found, or no more is left."""
    asked_Q = _sample(rows_N, _MEASURED_QUERIES)
    queries_QD = view.vectors(asked_Q)
    true = _without(exact_neighbours(view, queries_QD, rows_N, k=RECALL_AT + 1, metric="cosine"), asked_Q)
    least_Q = np.full(len(asked_Q), np.inf, np.float32)
    np.minimum.at(least_Q, true.query_P, true.score_P)

    def recall(effort: Effort) -> float:
        every_N = np.arange(view.num_rows)
        best = _without(_search(index, view, queries_QD, every_N, k=RECALL_AT + 1, effort=effort), asked_Q)
        # By score, so that one of several equal embeddings is as good as the other.
        return float((best.score_P >= least_Q[best.query_P]).sum() / len(true)) if len(true) else 1.0

    effort = Effort(min(_FEWEST_PROBES, index.nlist), _FEWEST_CANDIDATES)
    reached = recall(effort)
    while reached < _WANTED_RECALL and (greater := effort.greater(index.nlist)):
        reached, effort = max(((recall(tried), tried) for tried in greater), key=lambda found: found[0])
    return Measured(round(reached, 4), len(asked_Q), effort)


def _without(pairs: Pairs, own_Q: np.ndarray) -> Pairs:
    """The pairs without those of a query with itself."""
    others = pairs.take(pairs.row_P != own_Q[pairs.query_P])
    return others.take(others.best(RECALL_AT))


def _remove_unused(folder: Path) -> None:
    oldest_s = time.time() - _UNUSED_DAYS * 86400
    for path in folder.glob("*.faiss"):
        if path.stat().st_mtime < oldest_s:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)

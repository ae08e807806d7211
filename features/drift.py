"""Drift: how the vectors of a view moved between two versions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.measures import VectorMeasure
from features.pairing import Part
from features.reading import ShardReader
from features.view import StoredView

_QUANTILES = {"p5": "0.05", "p50": "0.5", "p95": "0.95"}


@dataclass(frozen=True)
class ViewRows:
    """Some rows of a view: the feature keys of those with an embedding, in key order, and their vectors.

    vectors_VD: float32 [vector, dim], of a sequence several a key; place_V: int64 [vector], the place in feature_keys
    of the key that each vector belongs to, rising.
    """

    feature_keys: dict[str, str]
    vectors_VD: np.ndarray
    place_V: np.ndarray

    def means(self, keys: list[str]) -> np.ndarray:
        """float32 [key, dim], the vector of each of some keys, of a sequence the mean of its vectors."""
        means_ND = self.vectors_VD
        if not np.array_equal(self.place_V, np.arange(len(self.feature_keys))):
            means_ND = np.full((len(self.feature_keys), self.vectors_VD.shape[1]), np.nan, np.float32)
            filled_M, starts_M, counts_M = np.unique(self.place_V, return_index=True, return_counts=True)
            if len(filled_M):
                means_ND[filled_M] = np.add.reduceat(self.vectors_VD, starts_M) / counts_M[:, None]
        places = {key: place for place, key in enumerate(self.feature_keys)}
        return means_ND[[places[key] for key in keys]]


def rows_of(reader: ShardReader, view: StoredView, part: Part) -> ViewRows:
    """The rows of a view in a part of a shard."""
    if not part.keys:
        return ViewRows({}, np.empty((0, view.dim), np.float32), np.empty(0, np.int64))
    rows = slice(part.start, part.start + len(part.keys))
    present_N = reader.present(view.name, part.index)[rows]
    found = reader.open_columns(view.name, part.index)["feature_key"].to_numpy()[rows]
    feature_keys = {part.keys[row]: found[row] for row in np.flatnonzero(present_N)}
    if not view.is_sequence:
        vectors_VD = reader.vectors(view.name, part.index)[rows][present_N]
        return ViewRows(feature_keys, vectors_VD.astype(np.float32), np.arange(len(feature_keys)))
    vectors_VD, row_V = reader.sequence_vectors(view.name, part.index)
    inside = slice(*np.searchsorted(row_V, [rows.start, rows.stop]))
    place_N = np.cumsum(present_N) - 1
    return ViewRows(feature_keys, vectors_VD[inside].astype(np.float32), place_N[row_V[inside] - rows.start])


class Drift:
    """Running measures of two versions of a view; what it keeps does not grow with them."""

    def __init__(self, old_dim: int, new_dim: int) -> None:
        self._old, self._new = _Version(old_dim), _Version(new_dim)
        self._num_pairs = 0
        self._cosine_sum = 0.0
        self._cosine_min = 1.0

    def add_same(self, rows: ViewRows) -> None:
        """Count in rows that are the same in both versions."""
        self._old.add(rows.vectors_VD)
        self._new.add(rows.vectors_VD)
        self._num_pairs += len(rows.feature_keys)
        self._cosine_sum += len(rows.feature_keys)

    def add(self, old: ViewRows, new: ViewRows, both: list[str]) -> None:
        """Count in rows of each version; both: the keys that have rows in the two of them.

        A pair of vectors of which one is zero or not finite has no cosine, and is left out of them.
        """
        self._old.add(old.vectors_VD)
        self._new.add(new.vectors_VD)
        if self._old.dim != self._new.dim or not both:
            return
        old_ND, new_ND = old.means(both).astype(np.float64), new.means(both).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            norms_N = np.linalg.norm(old_ND, axis=1) * np.linalg.norm(new_ND, axis=1)
            cosines_N = np.einsum("nd,nd->n", old_ND, new_ND) / norms_N
        cosines_N = cosines_N[np.isfinite(cosines_N)]
        self._num_pairs += len(cosines_N)
        self._cosine_sum += float(cosines_N.sum())
        self._cosine_min = min(self._cosine_min, float(cosines_N.min(initial=1.0)))

    def to_json(self) -> dict[str, Any]:
        """The measures of both, and the cosines between them; null where there is nothing to measure."""
        old_D, new_D = self._old.measure.mean(), self._new.measure.mean()
        norms = float(np.linalg.norm(old_D) * np.linalg.norm(new_D))
        has_means = len(old_D) == len(new_D) and norms > 0
        return {
            "old": self._old.to_json(),
            "new": self._new.to_json(),
            "cosine_of_means": float(old_D @ new_D) / norms if has_means else None,
            "cosines": {
                "keys": self._num_pairs,
                "mean": self._cosine_sum / self._num_pairs if self._num_pairs else None,
                "min": self._cosine_min if self._num_pairs else None,
            },
        }


@dataclass
class _Version:
    """Running measures of a version's vectors; one with a value that is not finite counts in non_finite_D alone."""

    dim: int

    def __post_init__(self) -> None:
        self.measure = VectorMeasure(self.dim)
        self.non_finite_D = np.zeros(self.dim, dtype=bool)

    def add(self, vectors_VD: np.ndarray) -> None:
        finite_V = self.measure.add(vectors_VD)
        self.non_finite_D |= ~np.isfinite(vectors_VD[~finite_V]).all(axis=0)

    def to_json(self) -> dict[str, Any]:
        norms, deviation_D = self.measure.norms.summary(), self.measure.deviations()
        return {
            "vectors": self.measure.num,
            "norm_mean": norms["mean"] if norms else None,
            "norm_quantiles": {
                name: norms["quantiles"][share] if norms else None for name, share in _QUANTILES.items()
            },
            "dead_dimensions": None if deviation_D is None else float((deviation_D == 0).mean()),
            "non_finite_dimensions": float(self.non_finite_D.mean()),
        }

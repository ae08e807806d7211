"""Measures of vectors and of numbers that arrive in pieces; memory does not grow with how many there are."""

from typing import Any

import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 40  # of a histogram that is shown
_CHUNK_ROWS = 2048  # of this size float32 stays in the cache
_DROPPED_BITS = 12  # of a float32's 23 after the point; what is left tells apart what differs by 1 in 2048


class Distribution:
    """How numbers from 0 up are distributed: exact least, mean and greatest, quantiles to 0.05 percent.

    whole: they are whole numbers, so a bar of the histogram holds as many of them as the next.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self.num = 0
        self._sum = 0.0
        self._low, self._high = np.inf, 0.0
        self._counts = np.zeros((0x7F800000 >> _DROPPED_BITS) + 1, np.int64)  # by the first bits, up to infinity's

    def add(self, values_V: np.ndarray) -> None:
        """Count numbers, none of them negative or NaN."""
        if len(values_V):
            self.num += len(values_V)
            self._sum += float(values_V.sum(dtype=np.float64))
            self._low = min(self._low, float(values_V.min()))
            self._high = max(self._high, float(values_V.max()))
            bits_V = np.minimum(values_V, np.finfo(np.float32).max).astype(np.float32).view(np.uint32)
            bins, counts = np.unique(bits_V >> _DROPPED_BITS, return_counts=True)
            self._counts[bins] += counts

    def summary(self) -> dict[str, Any] | None:
        """min, mean, max, quantiles by their share, and a histogram (edges, counts); None without numbers."""
        if not self.num:
            return None
        bins = np.flatnonzero(self._counts)
        counts = self._counts[bins]
        middle = ((bins.astype(np.uint32) << _DROPPED_BITS) + (1 << _DROPPED_BITS - 1)).view(np.float32)
        values = np.clip(middle.astype(np.float64), self._low, self._high)
        values = np.rint(values) if self._whole else values
        places = np.searchsorted(np.cumsum(counts), np.array(QUANTILES) * self.num)
        bars, edges = np.histogram(values, bins=self._edges(), weights=counts)
        return {
            "min": self._low,
            "mean": self._sum / self.num,
            "max": self._high,
            "quantiles": {f"{share:g}": float(values[place]) for share, place in zip(QUANTILES, places, strict=True)},
            "histogram": {"edges": edges.tolist(), "counts": bars.astype(int).tolist()},
        }

    def _edges(self) -> np.ndarray:
        if self._whole:
            step = 1 + int(self._high - self._low) // _BINS
            return np.arange(self._low - 0.5, self._high + step, step)
        # Bars that are narrower than what the counts tell apart would be a comb.
        finest = self._high * 2 / (1 << 23 - _DROPPED_BITS) or 1.0
        span = max(self._high - self._low, finest)
        edges = np.linspace(self._low, self._low + span, int(np.clip(span / finest, 1, _BINS)) + 1)
        edges[-1] = max(edges[-1], self._high)  # the sum may have been rounded down
        return edges


class VectorMeasure:
    """What is known of the finite ones among vectors: their norms, and the range and deviation of each dimension."""

    def __init__(self, dim: int) -> None:
        self.num = 0
        self.norms = Distribution()
        self._low_D = np.full(dim, np.inf, np.float32)
        self._high_D = np.full(dim, -np.inf, np.float32)
        self._origin_D: np.ndarray | None = None
        self._sum_D, self._square_sum_D = np.zeros(dim), np.zeros(dim)

    def add(self, vectors_VD: np.ndarray) -> np.ndarray:
        """Take vectors; bool [vector], which of them are finite."""
        finite_V = np.ones(len(vectors_VD), dtype=bool)
        for start in range(0, len(vectors_VD), _CHUNK_ROWS):
            chunk_VD = vectors_VD[start : start + _CHUNK_ROWS].astype(np.float32)
            norms_V = np.sqrt(np.einsum("vd,vd->v", chunk_VD, chunk_VD))
            if not np.isfinite(norms_V).all():
                sound_V = np.isfinite(chunk_VD).all(axis=1)
                finite_V[start : start + _CHUNK_ROWS] = sound_V
                chunk_VD = chunk_VD[sound_V]
                norms_V = np.linalg.norm(chunk_VD.astype(np.float64), axis=1)
            self.norms.add(norms_V)
            self._add_finite(chunk_VD)
        return finite_V

    def _add_finite(self, chunk_VD: np.ndarray) -> None:
        if not len(chunk_VD):
            return
        self.num += len(chunk_VD)
        np.minimum(self._low_D, chunk_VD.min(axis=0), out=self._low_D)
        np.maximum(self._high_D, chunk_VD.max(axis=0), out=self._high_D)
        if self._origin_D is None:
            self._origin_D = chunk_VD[0].copy()
        chunk_VD -= self._origin_D  # squares of what lies around the origin lose no digits
        self._sum_D += chunk_VD.sum(axis=0)
        self._square_sum_D += np.einsum("vd,vd->d", chunk_VD, chunk_VD)

    def mean(self) -> np.ndarray:
        """float64 [dim]; zero without vectors."""
        origin_D = 0.0 if self._origin_D is None else self._origin_D
        return origin_D + self._sum_D / max(self.num, 1)

    def deviations(self) -> np.ndarray | None:
        """float64 [dim], the standard deviation of each dimension, exactly 0 where it never varies; None below two."""
        if self.num < 2:
            return None
        variance_D = self._square_sum_D / self.num - (self._sum_D / self.num) ** 2
        return np.where(self._low_D == self._high_D, 0.0, np.sqrt(np.maximum(variance_D, np.finfo(np.float64).tiny)))

"""Reductions: standardise, PCA with or without whitening, and L2 norm, fitted on rows and applied to each row alone.

Everything is in float64. A fit is a function of the rows in their order, however they are handed over; a reduced row
is a function of the row and the fit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from features.errors import ReductionError, ShardError
from features.shards import read_shard

MAX_PCA_INPUT = 8192  # numbers in a vector; their covariance takes half a gigabyte
_BLOCK_ROWS = 1024
_LEAST_VARIANCE = 1e-12  # of that of the first axis: well above what rounding leaves where there is none
_EPS = float(np.finfo(np.float64).eps)
_KNOWN = "a step is 'standardise', 'l2', {pca: 64} or {pca: 64, whiten: true}"
_LISTS = pa.list_(pa.float64())
_FIT_SCHEMA = pa.schema([("kind", pa.string()), ("mean", _LISTS), ("axes", _LISTS), ("scale", _LISTS)])


@dataclass(frozen=True)
class Step:
    """A declared step; dim: the numbers that PCA leaves; whiten: whether each of these then has variance 1."""

    kind: Literal["standardise", "pca", "l2"]
    dim: int = 0
    whiten: bool = False

    @property
    def is_fitted(self) -> bool:
        return self.kind != "l2"

    def __str__(self) -> str:
        return f"pca {self.dim}{' whitened' if self.whiten else ''}" if self.kind == "pca" else self.kind


@dataclass(frozen=True)
class FittedStep:
    """A step as it is applied: (x - mean) turned onto the axes, over scale; a part that is None is left out.

    mean_D: float64 [dim]; axes_KD: float64 [axis, dim]; scale_K: float64 [axis], or [dim] without axes.
    """

    kind: str
    mean_D: np.ndarray | None = None
    axes_KD: np.ndarray | None = None
    scale_K: np.ndarray | None = None

    def apply(self, rows_ND: np.ndarray) -> np.ndarray:
        """float64 [row, K] of float64 [row, dim]."""
        if self.kind == "l2":
            lengths_N1 = np.sqrt(np.square(rows_ND).sum(axis=1, keepdims=True))
            return rows_ND / np.where(lengths_N1 > 0, lengths_N1, 1)
        centred_ND = rows_ND - self.mean_D
        # One dot product a number, since a product of matrices may round a row by where it stands among others.
        turned_NK = centred_ND if self.axes_KD is None else np.vecdot(centred_ND[:, None, :], self.axes_KD)
        return turned_NK if self.scale_K is None else turned_NK / self.scale_K


def parse_steps(declared: Sequence[Any]) -> tuple[Step, ...]:
    """The steps of a declaration such as ["standardise", {"pca": 64, "whiten": True}, "l2"].

    Raises ValueError if there is none, one is unknown, or a PCA keeps more than one before it left.
    """
    steps = tuple(map(_parse_step, declared))
    if not steps:
        raise ValueError(f"there is no step: {_KNOWN}")
    dims = [step.dim for step in steps if step.kind == "pca"]
    if dims != sorted(dims, reverse=True):
        raise ValueError(f"pca to {', then to '.join(map(str, dims))} numbers: a later one cannot keep more")
    return steps


def _parse_step(declared: Any) -> Step:
    if declared in ("standardise", "l2"):
        return Step(declared)
    if isinstance(declared, dict) and declared.keys() in ({"pca"}, {"pca", "whiten"}):
        dim, whiten = declared["pca"], declared.get("whiten", False)
        if type(dim) is int and dim >= 1 and isinstance(whiten, bool):
            return Step("pca", dim, whiten)
    raise ValueError(f"unknown step {declared!r}: {_KNOWN}")


def reduced_dim(steps: Sequence[Step], dim: int) -> int:
    """Length of a reduced vector of this length. Raises ReductionError if a PCA keeps more numbers than there are."""
    for step in steps:
        if step.kind == "pca":
            if step.dim > dim:
                raise ReductionError(f"pca to {step.dim} of vectors of {dim} numbers: ask for {dim} or fewer")
            if dim > MAX_PCA_INPUT:
                raise ReductionError(f"pca of vectors of {dim} numbers: it takes {MAX_PCA_INPUT} at most")
            dim = step.dim
    return dim


def apply_steps(fitted: Sequence[FittedStep], rows_ND: np.ndarray) -> np.ndarray:
    """float64 [row, K] of float64 [row, dim]; each row depends on itself alone."""
    for step in fitted:
        rows_ND = step.apply(rows_ND)
    return rows_ND


def fit_steps(steps: Sequence[Step], read_rows: Callable[[], Iterable[np.ndarray]]) -> tuple[FittedStep, ...]:
    """Fit each step on the rows as the steps before it leave them.

    read_rows: starts a pass over the rows, in arrays [row, dim] of any type and number of rows: there is one pass a
    fitted step, and memory does not grow with the rows. standardise takes the mean and the population variance, and
    divides by 1 where a number does not vary; pca takes the eigenvectors of the covariance (over n - 1) by falling
    eigenvalue, each with its largest entry (the first of equals) positive; whiten divides by the standard deviations
    on these axes. Equal rows give equal bytes on one kind of processor, on any number of threads.
    Raises ReductionError if there is no row, or the rows vary in fewer directions than a PCA keeps.
    """
    from threadpoolctl import threadpool_limits

    fitted: list[FittedStep] = []
    with threadpool_limits(1):  # LAPACK rounds otherwise on several threads
        for step in steps:
            fitted.append(_fit(step, _blocks(read_rows(), fitted)) if step.is_fitted else FittedStep(step.kind))
    return tuple(fitted)


def _blocks(parts: Iterable[np.ndarray], fitted: Sequence[FittedStep]) -> Iterator[np.ndarray]:
    """The rows after the fitted steps, in blocks of one size: where the parts end, no sum is rounded otherwise."""
    waiting: list[np.ndarray] = []
    num_waiting = 0
    for part_ND in parts:
        for start in range(0, len(part_ND), _BLOCK_ROWS):
            waiting.append(part_ND[start : start + _BLOCK_ROWS])
            num_waiting += len(waiting[-1])
            if num_waiting >= _BLOCK_ROWS:
                rows_ND = np.concatenate(waiting)
                yield apply_steps(fitted, rows_ND[:_BLOCK_ROWS].astype(np.float64))
                waiting, num_waiting = [rows_ND[_BLOCK_ROWS:]], num_waiting - _BLOCK_ROWS
    if num_waiting:
        yield apply_steps(fitted, np.concatenate(waiting).astype(np.float64))


@dataclass(frozen=True)
class _Moments:
    """scatter: the sum of squared deviations from the mean [dim], or of their products [dim, dim]."""

    num_rows: int
    mean_D: np.ndarray
    scatter: np.ndarray

    def joined(self, other: "_Moments") -> "_Moments":
        """The moments of both sets of rows.

        Source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
        eq. 2.1.
        """
        num_rows = self.num_rows + other.num_rows
        shift_D = other.mean_D - self.mean_D
        squares = np.outer(shift_D, shift_D) if self.scatter.ndim == 2 else np.square(shift_D)
        scatter = self.scatter + other.scatter + squares * (self.num_rows * other.num_rows / num_rows)
        return _Moments(num_rows, self.mean_D + shift_D * (other.num_rows / num_rows), scatter)


def _measure(blocks: Iterable[np.ndarray], *, products: bool) -> _Moments:
    moments: _Moments | None = None
    for rows_ND in blocks:
        mean_D = rows_ND.mean(axis=0)
        centred_ND = rows_ND - mean_D
        scatter = centred_ND.T @ centred_ND if products else np.square(centred_ND).sum(axis=0)
        of_block = _Moments(len(rows_ND), mean_D, scatter)
        moments = of_block if moments is None else moments.joined(of_block)
    if moments is None:
        raise ReductionError("there is no training row to fit it on")
    return moments


def _fit(step: Step, blocks: Iterable[np.ndarray]) -> FittedStep:
    moments = _measure(blocks, products=step.kind == "pca")
    return _fit_pca(step, moments) if step.kind == "pca" else _fit_standardise(moments)


def _fit_standardise(moments: _Moments) -> FittedStep:
    n, mean_D, variance_D = moments.num_rows, moments.mean_D, moments.scatter / moments.num_rows
    # Source: scikit-learn, _is_constant_feature: what rounding leaves of the variance of a constant.
    is_constant_D = variance_D <= n * _EPS * variance_D + np.square(n * mean_D * _EPS)
    return FittedStep("standardise", mean_D, scale_K=np.where(is_constant_D, 1, np.sqrt(variance_D)))


def _fit_pca(step: Step, moments: _Moments) -> FittedStep:
    reduced_dim([step], len(moments.mean_D))
    variances_D, columns_DD = np.linalg.eigh(moments.scatter / max(moments.num_rows - 1, 1))
    variances_D = variances_D[::-1]
    num_directions = int(np.count_nonzero(variances_D > max(variances_D[0], 0) * _LEAST_VARIANCE))
    if num_directions < step.dim:
        raise ReductionError(
            f"pca to {step.dim}, but the {moments.num_rows} training rows vary in {num_directions} directions only: "
            "ask for no more than that"
        )
    axes_KD = np.ascontiguousarray(columns_DD[:, ::-1][:, : step.dim].T)
    largest_K1 = np.abs(axes_KD).argmax(axis=1)[:, None]
    axes_KD *= np.sign(np.take_along_axis(axes_KD, largest_K1, axis=1))
    scale_K = np.sqrt(variances_D[: step.dim]) if step.whiten else None
    return FittedStep("pca", moments.mean_D, axes_KD, scale_K)


def fit_batch(fitted: Sequence[FittedStep]) -> pa.RecordBatch:
    """The fit as the rows of a file, a row a step: kind, mean, axes one after the other, scale."""
    kinds = pa.array([step.kind for step in fitted], pa.string())
    parts = [[getattr(step, name) for step in fitted] for name in ("mean_D", "axes_KD", "scale_K")]
    return pa.RecordBatch.from_arrays([kinds, *map(_list_column, parts)], schema=_FIT_SCHEMA)


def _list_column(arrays: Sequence[np.ndarray | None]) -> pa.Array:
    offsets = np.cumsum([0, *(0 if array is None else array.size for array in arrays)], dtype=np.int32)
    values = np.concatenate([np.empty(0), *(array.reshape(-1) for array in arrays if array is not None)])
    absent = pa.array([array is None for array in arrays])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), mask=absent)


def read_fit(path: Path) -> tuple[FittedStep, ...]:
    """The fit that a file holds. Raises ShardError if it holds none."""
    table = read_shard(path)
    if not table.schema.equals(_FIT_SCHEMA):
        raise ShardError(f"{path} holds no fit of a reduction: delete it and run 'dvc repro'")
    return tuple(_read_step(table, row) for row in range(table.num_rows))


def _read_step(table: pa.Table, row: int) -> FittedStep:
    cells = [table.column(name)[row] for name in _FIT_SCHEMA.names[1:]]
    mean, axes, scale = (cell.values.to_numpy() if cell.is_valid else None for cell in cells)
    step = FittedStep(table.column("kind")[row].as_py(), mean, axes, scale)
    return step if axes is None or mean is None else replace(step, axes_KD=axes.reshape(-1, len(mean)))

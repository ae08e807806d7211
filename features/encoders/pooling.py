"""Pooling: from the vectors of a sample to what a view stores of it."""

import numpy as np

from features.view import Pooling


def pool(vectors_TD: np.ndarray, times_T2: np.ndarray, pooling: Pooling) -> tuple[np.ndarray, np.ndarray | None]:
    """What a view keeps of a sample, and the intervals that go with it.

    vectors_TD: float [vector, dim], at least one; times_T2: float64 [vector, (start, end)].
    mean and max run over the vectors, each counting once whatever the length of its interval; mean_std is the mean
    followed by the population standard deviation. Sums are taken in float64, in the order of the vectors.
    Returns float32 [dim] (mean_std: [2 * dim]) and None, or for "sequence" float32 [vector, dim] and times_T2.
    """
    if len(vectors_TD) == 0:
        raise ValueError("there is no vector to pool: a sample without any is a reject or absent")
    if pooling == "sequence":
        return np.ascontiguousarray(vectors_TD, np.float32), times_T2
    # C order: numpy then adds row by row, where another layout would be summed in blocks and round differently.
    exact_TD = np.ascontiguousarray(vectors_TD, np.float64)
    if pooling == "max":
        return exact_TD.max(axis=0).astype(np.float32), None
    mean_D = exact_TD.mean(axis=0)
    if pooling == "mean":
        return mean_D.astype(np.float32), None
    if pooling == "mean_std":
        return np.concatenate([mean_D, exact_TD.std(axis=0)]).astype(np.float32), None
    raise ValueError(f"pooling is {pooling!r}; it must be mean, max, mean_std or sequence")


def pooled_dim(dim: int, pooling: Pooling) -> int:
    """Length of a stored vector when the encoder's vectors have length dim."""
    return 2 * dim if pooling == "mean_std" else dim

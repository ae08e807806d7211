"""Pooling: from the vectors of a sample to what a view stores of it."""

import numpy as np

from features.view import POOLINGS, Pooling


def pool(vectors_TD: np.ndarray, times_T2: np.ndarray, pooling: Pooling) -> tuple[np.ndarray, np.ndarray | None]:
    """What a view keeps of a sample, and the intervals that go with it.

    vectors_TD: float32 [vector, dim], at least one; times_T2: float64 [vector, (start, end)].
    mean and max run over the vectors x_1 .. x_T, each counting once whatever the length of its interval; mean_std is
    the mean followed by the population standard deviation. temporal is these two followed by
    the mean of |x_{t+1} - x_t| over t, and by mean(the last h vectors) - mean(the first h), h = T // 2;
    both are 0 for a single vector. Sums are taken in float64, in the order of the vectors.
    Returns float32 [pooled_dim(dim, pooling)] and None, or for "sequence" float32 [vector, dim] and times_T2.
    """
    if len(vectors_TD) == 0:
        raise ValueError("there is no vector to pool: a sample without any is a reject or absent")
    if pooling == "sequence":
        return np.ascontiguousarray(vectors_TD, np.float32), times_T2
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}; it must be one of {', '.join(POOLINGS)}")
    if pooling == "max":
        return vectors_TD.max(axis=0).astype(np.float32), None
    if pooling == "mean":
        return _exact(vectors_TD).mean(axis=0).astype(np.float32), None
    from features.encoders.vector_kernels import mean_and_deviation  # where it is needed: numba takes a while

    statistics_D = mean_and_deviation(np.ascontiguousarray(vectors_TD, np.float32))
    if pooling == "temporal":
        statistics_D = np.concatenate([statistics_D, *_course(_exact(vectors_TD))], dtype=np.float32)
    return statistics_D, None


def _exact(vectors_TD: np.ndarray) -> np.ndarray:
    """In float64, and in C order: numpy then adds row by row, where another layout would be summed in blocks and round
    differently."""
    return np.ascontiguousarray(vectors_TD, np.float64)


def _course(exact_TD: np.ndarray) -> list[np.ndarray]:
    """How the vectors change from one to the next, and from the first half to the last."""
    half = len(exact_TD) // 2
    if half == 0:
        return [np.zeros(exact_TD.shape[1])] * 2
    change_D = np.abs(np.diff(exact_TD, axis=0)).mean(axis=0)
    return [change_D, exact_TD[-half:].mean(axis=0) - exact_TD[:half].mean(axis=0)]


def pooled_dim(dim: int, pooling: Pooling) -> int:
    """Length of a stored vector when the encoder's vectors have length dim."""
    return {"mean_std": 2, "temporal": 4}.get(pooling, 1) * dim

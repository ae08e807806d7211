"""The loop that takes statistics of a sample's vectors, compiled: numpy passes over them six times, and lets go of the
interpreter's lock at each, so that threads that pool wait for each other. The loop keeps it: to get it back would take
longer than the few microseconds of the work.
"""

import numpy as np
from numba import types

from features.compiling import compiled


@compiled((types.Array(types.float32, 2, "C", readonly=True),))
def mean_and_deviation(vectors_TD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [dim] each: the mean and the population standard deviation of at least one vector, summed in order."""
    num_vectors, dim = vectors_TD.shape
    mean_D, square_D = np.zeros(dim), np.zeros(dim)
    for place in range(num_vectors):
        for d in range(dim):
            mean_D[d] += vectors_TD[place, d]
    mean_D /= num_vectors
    for place in range(num_vectors):
        for d in range(dim):
            away = vectors_TD[place, d] - mean_D[d]
            square_D[d] += away * away
    return mean_D, np.sqrt(square_D / num_vectors)

"""Small loops over a sample's vectors and their times, compiled: numpy passes over them several times, and lets go of
the interpreter's lock at each, so that threads wait for each other. The loops keep it unless they say otherwise: to get
it back would take longer than the few microseconds that a clip of seconds takes.
"""

import numpy as np
from numba import types

from features.compiling import compiled


@compiled((types.Array(types.float32, 2, "C", readonly=True),))
def mean_and_deviation(vectors_TD: np.ndarray) -> np.ndarray:
    """float32 [2 dim]: the mean and then the population standard deviation of at least one vector, taken in float64,
    summed in order."""
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
    statistics = np.empty(2 * dim, np.float32)
    statistics[:dim], statistics[dim:] = mean_D, np.sqrt(square_D / num_vectors)
    return statistics


@compiled((types.Array(types.int16, 1, "C", readonly=True),))
def full_scale(pcm_T: np.ndarray) -> np.ndarray:
    """float32 [sample]: 16-bit PCM in parts of full scale, exactly; as pipelines.media.audio.from_pcm16."""
    wave_T = np.empty(pcm_T.size, np.float32)
    for place in range(pcm_T.size):
        wave_T[place] = np.float32(pcm_T[place]) * np.float32(1 / 32768)
    return wave_T


@compiled((types.Array(types.float32, 2, "C", readonly=True),))
def is_finite(vectors_TD: np.ndarray) -> bool:
    """Whether no number is infinite or NaN: less itself each other one is 0."""
    numbers, others = vectors_TD.reshape(-1), np.int32(0)
    for place in range(numbers.size):
        others = np.int32(others | np.int32(numbers[place] - numbers[place] != 0))
    return others == 0


_NUMBERS = (types.int64, types.int64, types.int64, types.float64, types.float64, types.float64, types.float64)


@compiled(_NUMBERS)
def sliding_intervals(
    num: int, window: int, hop: int, rate_hz: float, duration_s: float, start_s: float, stretch: float
) -> np.ndarray:
    """float64 [window, (start, end)]: see features.encoders.waves.window_intervals."""
    times_T2 = np.empty((num, 2))
    for place in range(num):
        start = place * hop
        times_T2[place, 0] = start_s + stretch * min(start / rate_hz, duration_s)
        times_T2[place, 1] = start_s + stretch * min((start + window) / rate_hz, duration_s)
    return times_T2

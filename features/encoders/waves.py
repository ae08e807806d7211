"""Waveforms for a network that looks at them through a sliding window."""

from collections.abc import Callable, Sequence

import numpy as np

from features.encoders.base import Audio, Media, Prepared
from features.reasons import MediaError, Reason


def take_clip(media: Media) -> Audio:
    """The media as an audio clip. Raises MediaError if it is empty."""
    if not isinstance(media, Audio):
        raise TypeError(f"an audio encoder takes Audio, not {type(media).__name__}")
    if media.wave_T.size == 0:
        raise MediaError(Reason.EMPTY, "an audio clip without samples")
    return media


def wave_at(clip: Audio, rate_hz: int) -> np.ndarray:
    """The clip at the rate, float32 [sample]."""
    wave_T = np.ascontiguousarray(clip.wave_T, np.float32)
    if clip.rate_hz == rate_hz:
        return wave_T
    import torch
    import torchaudio.functional

    resampled = torchaudio.functional.resample(torch.from_numpy(wave_T.copy()), clip.rate_hz, rate_hz)
    return np.ascontiguousarray(resampled.numpy())


def prepare_windows(
    media: Media,
    *,
    rate_hz: int,
    window: int,
    hop: int,
    adjust: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Prepared:
    """The clip as one unit, float32 [sample] at rate_hz, with the interval of each window that fits into it.

    window and hop: in samples at rate_hz; adjust: what a model wants done to the wave. A clip that is shorter than a
    window is filled up with zeros to one window. Raises MediaError if the clip is empty.
    """
    clip = take_clip(media)
    wave_T = wave_at(clip, rate_hz)
    if adjust is not None:
        wave_T = adjust(wave_T)
    wave_T = pad_to(wave_T, window)
    num_windows = 1 + (len(wave_T) - window) // hop
    return Prepared([wave_T], window_intervals(clip, num_windows, window=window, hop=hop, rate_hz=rate_hz))


def pad_to(wave_T: np.ndarray, num_samples: int) -> np.ndarray:
    """The wave, with zeros after it where it is shorter than num_samples."""
    return wave_T if len(wave_T) >= num_samples else np.pad(wave_T, (0, num_samples - len(wave_T)))


def window_intervals(clip: Audio, num_windows: int, *, window: int, hop: int, rate_hz: int) -> np.ndarray:
    """float64 [window, (start, end)]: when each window begins and ends, in seconds from the start of the sample.

    window and hop: in samples at rate_hz, which the clip was brought to.
    Nothing lasts beyond the clip, even where it was padded to fill a window.
    """
    from features.encoders.vector_kernels import sliding_intervals  # where it is needed: numba takes a while

    duration_s = len(clip.wave_T) / clip.rate_hz
    times_T2: np.ndarray = sliding_intervals(num_windows, window, hop, rate_hz, duration_s, clip.start_s, clip.stretch)
    return times_T2


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """How many samples one output of stacked convolutions sees, and how many lie between two outputs."""
    window, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        window += (kernel - 1) * hop
        hop *= stride
    return window, hop

"""Waveforms for a network that looks at them through a sliding window."""

import numpy as np
import torch
import torchaudio.functional

from features.encoders.base import Audio, Media
from features.reasons import MediaError, Reason


def wave_at(media: Media, rate_hz: int) -> tuple[np.ndarray, float]:
    """The clip at the rate, float32 [sample], and its duration in seconds. Raises MediaError if it is empty."""
    if not isinstance(media, Audio):
        raise TypeError(f"an audio encoder takes Audio, not {type(media).__name__}")
    if media.wave_T.size == 0:
        raise MediaError(Reason.EMPTY, "an audio clip without samples")
    wave_T = np.ascontiguousarray(media.wave_T, np.float32)
    duration_s = len(wave_T) / media.rate_hz
    if media.rate_hz == rate_hz:
        return wave_T, duration_s
    resampled = torchaudio.functional.resample(torch.from_numpy(wave_T.copy()), media.rate_hz, rate_hz)
    return np.ascontiguousarray(resampled.numpy()), duration_s


def pad_to(wave_T: np.ndarray, num_samples: int) -> np.ndarray:
    """The wave, with zeros after it where it is shorter than num_samples."""
    return np.pad(wave_T, (0, max(0, num_samples - len(wave_T))))


def window_intervals(num_windows: int, *, window: int, hop: int, rate_hz: int, duration_s: float) -> np.ndarray:
    """float64 [window, (start, end)]: the seconds that each window sees; window and hop in samples.

    Nothing lasts beyond the clip, even where it was padded to fill a window.
    """
    start_T = np.arange(num_windows, dtype=np.float64) * hop
    return np.minimum(np.stack([start_T, start_T + window], axis=1) / rate_hz, duration_s)

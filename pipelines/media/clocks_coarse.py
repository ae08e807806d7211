"""Where two recordings of one event lie against each other, to some hundredths of a second: by their envelopes."""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

BAND_HZ = (200.0, 4000.0)  # what most recorders hold of speech; below it is rumble

_ENVELOPE_HZ = 50
_FRAME_S = 0.064
_NUM_BANDS = 24
_RISE_FRAMES = 2  # over which a band's level is compared; each recorder has its own gain, so no level says anything
_MAX_DEVIATION = 3.0  # in standard deviations, so that one bang does not outweigh an hour of speech
_CHUNK = 4096  # frames transformed at once
_MAX_SMEAR_S = 0.024  # by which the drift may move the lag within a block
_BLOCK_S = (10.0, 120.0)
_APART_S = 0.3  # candidates nearer to each other are one


@dataclass(frozen=True)
class Line:
    """Time t of the other recording is time offset_s + t * (1 + drift) of the reference."""

    offset_s: float
    drift: float

    def at(self, times_T: np.ndarray) -> np.ndarray:
        """float64 [time]: the reference's times of the other recording's."""
        placed: np.ndarray = self.offset_s + times_T * (1 + self.drift)
        return placed

    def before(self, reference_s: float) -> float:
        """The other recording's time of one of the reference's."""
        return (reference_s - self.offset_s) / (1 + self.drift)


def band_envelopes(wave_T: np.ndarray, rate_hz: int) -> np.ndarray:
    """float32 [band, frame] at _ENVELOPE_HZ: how fast the level of each band rises, in its standard deviations."""
    num_samples = round(_FRAME_S * rate_hz)
    num_frames = int((len(wave_T) - num_samples) * _ENVELOPE_HZ / rate_hz) + 1
    if num_frames <= _RISE_FRAMES:
        return np.zeros((_NUM_BANDS, 0), np.float32)
    starts_F = np.rint(np.arange(num_frames) * rate_hz / _ENVELOPE_HZ).astype(np.int64)
    window_T = np.hanning(num_samples).astype(np.float32)
    frames_FT = sliding_window_view(wave_T, num_samples)
    edges = _band_edges(rate_hz, num_samples)
    power_FB = np.empty((num_frames, _NUM_BANDS), np.float32)
    for first in range(0, num_frames, _CHUNK):
        spectra_FK = scipy.fft.rfft(frames_FT[starts_F[first : first + _CHUNK]] * window_T, axis=1)[:, : edges[-1]]
        power_FK = spectra_FK.real**2 + spectra_FK.imag**2
        power_FB[first : first + _CHUNK] = np.add.reduceat(power_FK, edges[:-1], axis=1)
    return _rises(power_FB.T)


def _band_edges(rate_hz: int, num_samples: int) -> np.ndarray:
    """The first bin of each band, evenly spaced in the logarithm, and the first beyond the last."""
    edges_hz = np.geomspace(BAND_HZ[0], min(BAND_HZ[1], rate_hz / 2), _NUM_BANDS + 1)
    return np.rint(edges_hz * num_samples / rate_hz).astype(np.int64)


def _rises(power_BF: np.ndarray) -> np.ndarray:
    """The floor, a band's usual power, keeps the noise of pauses from counting as much as speech."""
    floor_B1 = np.sqrt(power_BF).mean(axis=1, keepdims=True, dtype=np.float64) ** 2 + 1e-20
    level_BF = np.log(power_BF + floor_B1.astype(np.float32))
    rise_BF = level_BF[:, _RISE_FRAMES:] - level_BF[:, :-_RISE_FRAMES]
    rise_BF /= rise_BF.std(axis=1, keepdims=True) + 1e-6
    return np.clip(rise_BF, -_MAX_DEVIATION, _MAX_DEVIATION, out=rise_BF)


def likely_lines(
    reference_BF: np.ndarray, other_BF: np.ndarray, *, max_offset_s: float, max_drift: float, num: int
) -> list[Line]:
    """The best lines by the correlation of envelopes, best first.

    other_BF is cut into blocks; each is correlated with the reference at every lag, and for each drift of a grid the
    correlations are added along the line, so that a drift smears nothing.
    """
    num_reference, num_other = reference_BF.shape[1], other_BF.shape[1]
    reach = int(min(max_offset_s * _ENVELOPE_HZ, max(num_reference, num_other)))
    num_steps = int(np.ceil(max_drift * num_other))
    drifts_D = max_drift * np.array(sorted(range(-num_steps, num_steps + 1), key=abs)) / max(1, num_steps)
    slack = num_steps + 1
    block = round(_ENVELOPE_HZ * float(np.clip(_MAX_SMEAR_S / max(max_drift, 1e-9), *_BLOCK_S)))
    middles, correlations = _correlate_blocks(reference_BF, other_BF, reach + slack, min(num_other, block))
    score_L = np.full(2 * reach + 1, -np.inf, np.float32)
    best_L = np.zeros(2 * reach + 1, np.int64)
    for index, drift in enumerate(drifts_D):
        total_L = np.zeros(2 * reach + 1, np.float32)
        for correlation_L, shift in zip(correlations, np.rint(drift * middles).astype(int), strict=True):
            total_L += correlation_L[slack + shift : slack + shift + 2 * reach + 1]
        better = total_L > score_L
        score_L[better], best_L[better] = total_L[better], index
    peaks = _highest_peaks(score_L, num, round(_APART_S * _ENVELOPE_HZ) + slack)
    return [Line((peak - reach) / _ENVELOPE_HZ, float(drifts_D[best_L[peak]])) for peak in peaks]


def _highest_peaks(score_L: np.ndarray, num: int, apart: int) -> list[int]:
    """Places of the highest scores, no two of them nearer than apart."""
    left_L = score_L.copy()
    peaks: list[int] = []
    while len(peaks) < num and np.isfinite(left_L.max()):
        peaks.append(int(left_L.argmax()))
        left_L[max(0, peaks[-1] - apart) : peaks[-1] + apart + 1] = -np.inf
    return peaks


def _correlate_blocks(
    reference_BF: np.ndarray, other_BF: np.ndarray, reach: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """The middle of each block of other_BF, of block frames, and float32 [block, lag]: its correlation at lags from
    -reach to reach, in standard deviations."""
    num_other = other_BF.shape[1]
    starts = np.arange(0, max(1, num_other - block // 2), max(1, block))
    num_lags = 2 * reach + 1
    size = scipy.fft.next_fast_len(num_lags + block - 1, real=True)
    padded_BF = np.pad(reference_BF, ((0, 0), (reach, reach + num_other)))
    correlations = np.empty((len(starts), num_lags), np.float32)
    for index, start in enumerate(starts):
        sought = scipy.fft.rfft(other_BF[:, start : start + block], size, axis=1)
        place = scipy.fft.rfft(padded_BF[:, start : start + num_lags + block - 1], size, axis=1)
        correlation = scipy.fft.irfft((place * sought.conj()).sum(axis=0), size)[:num_lags]
        correlations[index] = correlation / (correlation.std() + 1e-9)
    return starts + block / 2, correlations

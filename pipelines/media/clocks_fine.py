"""Where two recordings of one event lie against each other, to some microseconds: by the phases of their sound."""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from pipelines.media.clocks_coarse import BAND_HZ, Line

AGREE_S = 0.002  # a window whose lag is this near to the line confirms it

_FRAME_S = 0.512  # 200 ppm move the lag by 0.1 ms in it: the phases of its sound still hold together
_HOP_S = _FRAME_S / 2
_REACH_S = 0.128  # how far off the line a window's lag is sought
_ECHO_S = 0.02  # a peak that near to the first is the same sound, by another way through the room
_WINDOW_S = (1.0, 8.0)
_NUM_WINDOWS = 32  # at least, where the recordings are long enough
_MAX_PAIRS = 4096
_MIN_TOLERANCE_S = 0.0001
_LAG_ERROR_S = 0.00005  # of a window, at best: a few that agree by chance do not make a drift sure


@dataclass(frozen=True)
class Windows:
    """Stretches of the other recording and how they lie against the reference.

    other_W: float64 [window], seconds, the middle of each; beside_W: how much later than a line has it the reference
    was taken, by whole samples; gcc_WL: float32 [window, lag], correlation in standard deviations of what noise would
    give; lags_L: seconds by which the reference is later than it was taken.
    """

    other_W: np.ndarray
    beside_W: np.ndarray
    gcc_WL: np.ndarray
    lags_L: np.ndarray

    def peak_lags(self) -> np.ndarray:
        """float64 [window]: by how much the reference is later than the line has it: where the correlation is highest,
        between samples by the parabola through its neighbours."""
        peak_W = np.clip(self.gcc_WL.argmax(axis=1), 1, self.gcc_WL.shape[1] - 2)
        around_W3 = np.take_along_axis(self.gcc_WL, peak_W[:, None] + np.arange(-1, 2), axis=1).astype(np.float64)
        before_W, at_W, after_W = around_W3.T
        bend_W = np.minimum(before_W - 2 * at_W + after_W, -1e-9)
        shift_W = np.clip((before_W - after_W) / (2 * bend_W), -0.5, 0.5)
        return self.beside_W + self.lags_L[peak_W] + shift_W * (self.lags_L[1] - self.lags_L[0])

    def peaks_along(self, lags_W: np.ndarray) -> tuple[float, float]:
        """The peak of all windows' correlations added at these lags, and the highest away from it by more than an
        echo, in standard deviations of noise."""
        step_s = self.lags_L[1] - self.lags_L[0]
        columns_WL = np.arange(len(self.lags_L)) + np.rint((lags_W - self.beside_W) / step_s).astype(np.int64)[:, None]
        shifted_WL = np.take_along_axis(self.gcc_WL, columns_WL % len(self.lags_L), axis=1)
        sum_L = shifted_WL.sum(axis=0) / np.sqrt(len(lags_W))
        beyond_L = np.abs(self.lags_L) > _ECHO_S
        return float(sum_L[np.abs(self.lags_L) < 1.5 * step_s].max()), float(sum_L[beyond_L].max())


def correlate_windows(
    reference_T: np.ndarray, other_T: np.ndarray, rate_hz: int, line: Line, *, max_windows: int | None = None
) -> Windows:
    """Correlate windows spread over all that both recordings cover, at most max_windows of them.

    The frames of a window are laid on the line one by one and their cross-spectra added, so that a drift that the line
    knows smears nothing. One recorder may have its wires crossed: if the correlations' troughs are deeper than their
    peaks are high, they are turned over. Windows in which one of them is silent down to the last bit are left out.
    Source: Knapp and Carter, The generalized correlation method for estimation of time delay (1976), phase transform;
    differs: it weights the sum over a window's frames.
    """
    num, reach = round(_FRAME_S * rate_hz), round(_REACH_S * rate_hz)
    starts_WF = _window_starts(len(reference_T), len(other_T), rate_hz, line, max_windows)
    middles_WF = (starts_WF + num / 2) / rate_hz
    places_WF = np.rint(line.at(middles_WF) * rate_hz - num / 2).astype(np.int64)
    lags = np.arange(-reach, reach + 1)
    gcc_WL = np.zeros((len(starts_WF), len(lags)), np.float32)
    window_T = np.hanning(num).astype(np.float32)
    bins_hz = np.arange(num // 2 + 1) * rate_hz / num
    inside_K = (bins_hz >= BAND_HZ[0]) & (bins_hz <= BAND_HZ[1])
    for row, (starts, places) in enumerate(zip(starts_WF, places_WF, strict=True)):
        spectra_FK = scipy.fft.rfft(sliding_window_view(reference_T, num)[places] * window_T, axis=1)
        spectra_FK *= scipy.fft.rfft(sliding_window_view(other_T, num)[starts] * window_T, axis=1).conj()
        cross_K = spectra_FK.sum(axis=0)
        phases_K = np.where(inside_K, cross_K / (np.abs(cross_K) + 1e-30), 0)
        gcc_WL[row] = scipy.fft.irfft(phases_K, num)[lags]
    gcc_WL *= num / np.sqrt(2 * inside_K.sum())
    if np.sum(gcc_WL.max(axis=1) + gcc_WL.min(axis=1)) < 0:
        gcc_WL *= -1
    heard_W = gcc_WL.any(axis=1)
    beside_W = ((places_WF + num / 2) / rate_hz - line.at(middles_WF)).mean(axis=1)
    return Windows(middles_WF.mean(axis=1)[heard_W], beside_W[heard_W], gcc_WL[heard_W], lags / rate_hz)


def _window_starts(num_reference: int, num_other: int, rate_hz: int, line: Line, max_windows: int | None) -> np.ndarray:
    """int64 [window, frame]: first samples of the frames of the other recording, each half over the one before, in
    windows that the reference covers too."""
    num = round(_FRAME_S * rate_hz)
    starts_F = np.arange(0, max(0, num_other - num + 1), round(_HOP_S * rate_hz))
    places_F = np.rint(line.at((starts_F + num / 2) / rate_hz) * rate_hz - num / 2)
    starts_F = starts_F[(places_F >= 0) & (places_F <= num_reference - num)]
    shortest, longest = (round(window_s / _HOP_S) for window_s in _WINDOW_S)
    per_window = max(1, min(len(starts_F), max(shortest, min(longest, len(starts_F) // _NUM_WINDOWS))))
    starts_WF = starts_F[: len(starts_F) // per_window * per_window].reshape(-1, per_window)
    if max_windows is not None and len(starts_WF) > max_windows:
        starts_WF = starts_WF[np.linspace(0, len(starts_WF) - 1, max_windows).astype(int)]
    return starts_WF


@dataclass(frozen=True)
class Fit:
    """lag = lag_s + slope * (time - middle_s) by the windows in agree_W; slope_error: its standard error, infinite
    where there are too few."""

    middle_s: float
    lag_s: float
    slope: float
    slope_error: float
    agree_W: np.ndarray

    def lags(self, times_W: np.ndarray) -> np.ndarray:
        """The fitted lags at some times."""
        return self.lag_s + self.slope * (times_W - self.middle_s)


def fit_line(times_W: np.ndarray, lags_W: np.ndarray, slopes: tuple[float, float]) -> Fit:
    """The line that most windows agree on, its slope between the two given; any number of windows may be wrong.

    The line through every pair of windows that lie far apart is tried, and the level one nearest to no drift through
    each; the best by the sum of distances, none counted above AGREE_S, is refined by least squares over the windows
    within a tolerance of four times their spread.
    """
    level = float(np.clip(0.0, *slopes))
    first, second = np.triu_indices(len(times_W), max(1, len(times_W) // 3))
    tried = np.linspace(0, len(first) - 1, min(len(first), _MAX_PAIRS)).astype(int)
    first, second = first[tried], second[tried]
    slope_P = np.clip((lags_W[second] - lags_W[first]) / (times_W[second] - times_W[first]), *slopes)
    slope_P = np.concatenate([slope_P, np.full(len(times_W), level)])
    through_P = np.concatenate([first, np.arange(len(times_W))])
    off_PW = np.abs(lags_W - lags_W[through_P, None] - slope_P[:, None] * (times_W - times_W[through_P, None]))
    best = int(np.minimum(off_PW, AGREE_S).sum(axis=1).argmin())
    off_W = off_PW[best]
    fit = _least_squares(times_W, lags_W, off_W <= AGREE_S, slopes)
    spread_s = 1.4826 * float(np.median(off_W[off_W <= AGREE_S]))
    near_W = np.abs(lags_W - fit.lags(times_W)) <= np.clip(4 * spread_s, _MIN_TOLERANCE_S, AGREE_S)
    fit = _least_squares(times_W, lags_W, near_W if near_W.any() else off_W <= AGREE_S, slopes)
    agree_W = np.abs(lags_W - fit.lags(times_W)) <= AGREE_S
    return Fit(fit.middle_s, fit.lag_s, fit.slope, fit.slope_error, agree_W)


def _least_squares(times_W: np.ndarray, lags_W: np.ndarray, use_W: np.ndarray, slopes: tuple[float, float]) -> Fit:
    times_U, lags_U = times_W[use_W], lags_W[use_W]
    middle_s, lag_s = float(times_U.mean()), float(lags_U.mean())
    spread = float(np.sum((times_U - middle_s) ** 2))
    if len(times_U) < 3:
        return Fit(middle_s, lag_s, float(np.clip(0.0, *slopes)), np.inf, use_W)
    slope = float(np.clip(np.sum((times_U - middle_s) * (lags_U - lag_s)) / spread, *slopes))
    residual_U = lags_U - lag_s - slope * (times_U - middle_s)
    variance = max(_LAG_ERROR_S**2, float(np.sum(residual_U**2)) / (len(times_U) - 2))
    error = float(np.sqrt(variance / spread))
    return Fit(middle_s, lag_s, slope, error, use_W)

"""How the clock of a separate recorder relates to that of a reference: offset, drift, and how sure that is."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipelines.media.clocks_coarse import Line, band_envelopes, likely_lines
from pipelines.media.clocks_fine import Fit, Windows, correlate_windows, fit_line

_NUM_CANDIDATES = 8
_TRIED_WINDOWS = 24  # of each candidate
_MAX_DRIFT_ERROR = 5e-6  # a drift that is less sure than this is noise: a recording of some seconds has none


@dataclass(frozen=True)
class ClockRelation:
    """A sound at t of the other recording's clock is at offset_s + t * (1 + drift_ppm * 1e-6) of the reference's.

    Both clocks begin with the first sample and count samples by the nominal rate. drift_ppm is None where the
    recordings are too short to tell: the offset is then that of no drift; drift_error_ppm: its standard error, infinite
    where there is no telling. confidence: from 0 to 1. overlap_s: how long both recorded; unconfirmed_s: the longest
    stretch of that, start and end on the other's clock, in which no two windows in a row confirm the relation.
    """

    offset_s: float
    drift_ppm: float | None
    drift_error_ppm: float
    confidence: float
    overlap_s: float
    unconfirmed_s: tuple[float, float]


def relate_clocks(
    reference_T: np.ndarray, other_T: np.ndarray, rate_hz: int, *, max_offset_s: float, max_drift_ppm: float
) -> ClockRelation:
    """Find offset and drift between two recordings of one event.

    reference_T, other_T: float32 [sample], mono. Gains, polarities, rooms and bandwidths may differ, noise may be as
    loud as the event, and one may cover a part of the other only.

    The envelopes of 24 bands give candidates for offset and drift. Along each, windows of 1 to 8 s are correlated by
    the phases of their spectra (GCC-PHAT); the line that most windows' lags agree on is the relation.

    confidence = share of windows within 2 ms of the line * (1 - height of the highest other peak / height of the peak),
    heights of the sum of all windows' correlations along the line; other peaks are those more than 20 ms beside it and
    those of the other candidates. So sounds that repeat themselves give no confidence where they leave a choice.
    """
    max_drift = max_drift_ppm * 1e-6
    envelopes = [band_envelopes(wave_T, rate_hz) for wave_T in (reference_T, other_T)]
    lines = likely_lines(*envelopes, max_offset_s=max_offset_s, max_drift=max_drift, num=_NUM_CANDIDATES)
    tried = [
        one for line in lines if (one := _try_line(reference_T, other_T, rate_hz, line, max_drift, _TRIED_WINDOWS))
    ]
    if not tried:
        return ClockRelation(0.0, None, math.inf, 0.0, 0.0, (0.0, 0.0))
    best = max(tried, key=lambda one: one.peak)
    rivals = [best.rival, *(one.peak for one in tried if one is not best)]
    found = _try_line(reference_T, other_T, rate_hz, best.fitted, max_drift, None) or best
    ratio = max(max(rivals) / best.peak, found.rival / found.peak) if min(best.peak, found.peak) > 0 else 1.0
    return _relation(found, len(other_T) / rate_hz, len(reference_T) / rate_hz, max(0.0, 1 - ratio))


@dataclass(frozen=True)
class _Tried:
    """A line, the windows along it, the fit of their lags, the heights of its peak and of the highest other one."""

    line: Line
    windows: Windows
    fit: Fit
    peak: float
    rival: float

    @property
    def fitted(self) -> Line:
        """The line moved by the fit."""
        fit = self.fit
        return Line(self.line.offset_s + fit.lag_s - fit.slope * fit.middle_s, self.line.drift + fit.slope)


def _try_line(
    reference_T: np.ndarray, other_T: np.ndarray, rate_hz: int, line: Line, max_drift: float, max_windows: int | None
) -> _Tried | None:
    """None where the line leaves no window that both recordings cover."""
    windows = correlate_windows(reference_T, other_T, rate_hz, line, max_windows=max_windows)
    if not len(windows.other_W):
        return None
    fit = fit_line(windows.other_W, windows.peak_lags(), (-max_drift - line.drift, max_drift - line.drift))
    return _Tried(line, windows, fit, *windows.peaks_along(fit.lags(windows.other_W)))


def _relation(found: _Tried, other_s: float, reference_s: float, clearness: float) -> ClockRelation:
    line, fit = found.fitted, found.fit
    start_s, end_s = max(0.0, line.before(0.0)), min(other_s, line.before(reference_s))
    confirmed = [start_s, *found.windows.other_W[_with_neighbour(fit.agree_W)].tolist(), end_s]
    unconfirmed_s = max(pairwise(confirmed), key=lambda pair: pair[1] - pair[0])
    has_drift = fit.slope_error <= _MAX_DRIFT_ERROR
    return ClockRelation(
        offset_s=line.offset_s if has_drift else line.offset_s + line.drift * fit.middle_s,
        drift_ppm=line.drift * 1e6 if has_drift else None,
        drift_error_ppm=fit.slope_error * 1e6,
        confidence=float(np.mean(fit.agree_W)) * clearness,
        overlap_s=end_s - start_s,
        unconfirmed_s=unconfirmed_s,
    )


def _with_neighbour(agree_W: np.ndarray) -> np.ndarray:
    """Windows that agree beside another that does: now and then one agrees by chance."""
    beside_W = np.zeros_like(agree_W)
    beside_W[1:] |= agree_W[:-1]
    beside_W[:-1] |= agree_W[1:]
    return agree_W & beside_W

"""Decoded streams on the recording's timeline: audio without gaps, video as encoded frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from av import AudioFrame, AudioResampler, VideoFrame
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter
from numpy.lib.stride_tricks import sliding_window_view

from features.reasons import MediaError, Reason
from pipelines.media.pixels import encode_jpeg, shrink

MAX_JITTER_S = 0.02  # timestamps are rounded (to 1 ms in Matroska) or noisy; what differs more is a gap or an overlap
_SETTLED_S = 0.003  # what lasts is no noise: from here on samples are moved to where the timestamps have them
_SETTLING_S = 2.0  # over which it is looked at
MAX_GAP_S = 3600.0  # a longer gap is a broken timestamp, and filling it would fill the memory
_BLOCK = 4096  # frames at a time: their neighbourhoods are many times as large
_LEAST_RATE_HZ = 1000  # of sound: with less the header is broken, and the wave would be thousands of times as large
_EARLY_S = 0.002  # a frame whose timestamp was rounded down is still due


@dataclass(frozen=True)
class AudioTrack:
    """wave_T: float32 [sample], mono; sample i sounds at start_s + i / rate_hz."""

    wave_T: np.ndarray
    rate_hz: int
    start_s: float


@dataclass(frozen=True)
class VideoTrack:
    """frames: JPEG, upright; times_s: presentation times, strictly rising; end_s: when the last decoded frame goes."""

    frames: list[bytes]
    times_s: list[float]
    end_s: float


@dataclass
class _Run:
    """Frames that follow each other: when they sound by their timestamps, where they lie in what was resampled."""

    kind: tuple[int, str, str]
    resampler: AudioResampler
    parts: list[np.ndarray] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    places_s: list[float] = field(default_factory=list)
    length_s: float = 0.0

    def add(self, frame: AudioFrame, start_s: float) -> None:
        self.times_s.append(start_s)
        self.places_s.append(self.length_s)
        self.length_s += frame.samples / frame.sample_rate
        frame.pts = None  # the run has its own clock
        self.resample(frame)

    def resample(self, frame: AudioFrame | None) -> None:
        """Resample and keep a frame; None takes what the resampler holds back."""
        self.parts += [(out.to_ndarray()[0] / 2.0**31).astype(np.float32) for out in self.resampler.resample(frame)]


class AudioCollector:
    """Decoded audio frames to one mono wave.

    Frames that follow each other form a run, resampled as one; runs are laid at their real start, with silence in the
    gaps, and cut where they overlap what was there before.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._run: _Run | None = None
        self._pieces: list[tuple[float, np.ndarray]] = []

    def add(self, frame: AudioFrame, start_s: float, _end_s: float) -> None:
        """Append a frame that sounds from start_s on. Raises MediaError UNDECODABLE for a rate that no sound has."""
        if frame.sample_rate < _LEAST_RATE_HZ:
            raise MediaError(
                Reason.UNDECODABLE,
                f"its audio is said to have {frame.sample_rate} samples a second; {_LEAST_RATE_HZ} is the least",
            )
        kind = (frame.sample_rate, frame.layout.name, frame.format.name)
        run = self._run
        if run is None or kind != run.kind or abs(start_s - run.times_s[0] - run.length_s) > MAX_JITTER_S:
            self._end_run()
            # 32-bit integers, since for floating point the sum of two equal channels would come out 3 dB louder.
            run = self._run = _Run(kind, AudioResampler(format="s32", layout="mono", rate=self._rate_hz))
        run.add(frame, start_s)

    def finish(self) -> AudioTrack | None:
        """The wave. Raises MediaError UNDECODABLE for a gap above MAX_GAP_S."""
        self._end_run()
        return lay(self._pieces, self._rate_hz) if self._pieces else None

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        run.resample(None)
        if not run.parts:  # it is shorter than one sample of the rate that is wanted
            return
        wave_T = np.concatenate(run.parts)
        starts = settle(run.times_s, run.places_s)
        places = [round(place_s * self._rate_hz) for _, place_s in starts]
        for (time_s, _), first, stop in zip(starts, places, [*places[1:], len(wave_T)], strict=True):
            self._pieces.append((time_s, wave_T[first:stop]))


def settle(times_s: Sequence[float], places_s: Sequence[float]) -> list[tuple[float, float]]:
    """Where a run has to be cut so that no sample sounds far from its timestamp for long: (time, place) of each piece.

    times_s: when each frame sounds by its timestamp; places_s: where it lies in the run. Timestamps that are merely
    noisy cut nothing; those of a run that lost some samples, or of a clock that drifts, do. What counts is the median
    of a frame's neighbourhood, so that a cut falls on the very frame after a loss.
    """
    times_F, places_F = np.array(times_s), np.array(places_s)
    late_F = times_F - times_F[0] - places_F
    if np.abs(late_F).max() > _SETTLED_S:
        num_beside = max(1, round(_SETTLING_S / 2 / max(np.median(np.diff(places_F)), 1e-3)))
        around_FN = sliding_window_view(np.pad(late_F, num_beside, mode="symmetric"), 2 * num_beside + 1)
        late_F = np.concatenate([np.median(around_FN[i : i + _BLOCK], axis=1) for i in range(0, len(late_F), _BLOCK)])
    else:
        late_F = np.zeros_like(late_F)
    pieces, late_s, frame = [], 0.0, 0
    while True:
        if abs(late_F[frame] - late_s) > _SETTLED_S:
            late_s = float(late_F[frame])
        pieces.append((float(times_F[0] + places_F[frame]) + late_s, float(places_F[frame])))
        moved = np.flatnonzero(np.abs(late_F[frame:] - late_s) > _SETTLED_S)
        if not len(moved):
            return pieces
        frame += int(moved[0])


def lay(pieces: Sequence[tuple[float, np.ndarray]], rate_hz: int) -> AudioTrack:
    """Pieces of a wave, each with its time, as one: silence in the gaps, and cut where they overlap what came before.

    Raises MediaError UNDECODABLE for a gap above MAX_GAP_S.
    """
    start_s = pieces[0][0]
    parts: list[np.ndarray] = []
    num_samples = 0
    for time_s, wave_T in pieces:
        gap = round((time_s - start_s) * rate_hz) - num_samples
        if gap > MAX_GAP_S * rate_hz:
            raise MediaError(
                Reason.UNDECODABLE,
                f"audio timestamps jump by {gap / rate_hz:.0f} s to {time_s:.3f} s; {MAX_GAP_S:.0f} s is allowed",
            )
        parts += [np.zeros(max(0, gap), np.float32), wave_T[max(0, -gap) :]]
        num_samples += len(parts[-2]) + len(parts[-1])
    return AudioTrack(np.concatenate(parts), rate_hz, start_s)


class VideoCollector:
    """Decoded pictures to JPEG, at most one for each step of a grid, each with its own presentation time.

    It is the first picture of the step. Where none begins in a step, the one that is on screen then was not the first
    of its own step either, perhaps, and is kept too.
    """

    def __init__(self, rate_hz: float, size_px: int) -> None:
        self._rate_hz = rate_hz
        self._size_px = size_px
        self._reformatter = VideoReformatter()
        self._last_step = -math.inf
        self._passed_over: tuple[VideoFrame, float] | None = None
        self._frames: list[bytes] = []
        self._times_s: list[float] = []
        self._end_s = -math.inf

    def add(self, frame: VideoFrame, start_s: float, end_s: float) -> None:
        """Keep the picture shown from start_s on if it is the first of its step."""
        step = self._step(start_s)
        self._keep_what_stays(step)
        self._end_s = max(self._end_s, end_s)
        if step > self._last_step:
            self._last_step, self._passed_over = step, None
            self._keep(frame, start_s)
        elif start_s > self._times_s[-1]:
            self._passed_over = frame, start_s

    def finish(self) -> VideoTrack | None:
        self._keep_what_stays(self._step(self._end_s - 2 * _EARLY_S))
        return VideoTrack(self._frames, self._times_s, self._end_s) if self._frames else None

    def _step(self, time_s: float) -> float:
        return (time_s + _EARLY_S) * self._rate_hz // 1

    def _keep_what_stays(self, step: float) -> None:
        """Keep the picture that was passed over if it stays on screen for a whole step, until this one."""
        if self._passed_over is not None and step > self._last_step + 1:
            self._keep(*self._passed_over)
            self._passed_over = None

    def _keep(self, frame: VideoFrame, start_s: float) -> None:
        pixels_HWC = self._reformatter.reformat(frame, format="bgr24", threads=1).to_ndarray()
        self._frames.append(encode_jpeg(_upright(shrink(pixels_HWC, self._size_px), frame)))
        self._times_s.append(start_s)


def _upright(pixels_HWC: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Turn and mirror by the display matrix as far as quarter turns go, which is all that cameras write.

    Source: ISO/IEC 14496-12, 6.2.2: (x, y) is shown at (a x + c y, b x + d y).
    """
    side_data = frame.side_data.get(Type.DISPLAYMATRIX)
    if side_data is None:
        return pixels_HWC
    a, b, _, c, d, *_ = np.frombuffer(bytes(side_data), "i4").tolist()
    if abs(a) >= abs(b):
        return np.ascontiguousarray(pixels_HWC[:: _sign(d), :: _sign(a)])
    return np.ascontiguousarray(pixels_HWC.transpose(1, 0, 2)[:: _sign(b), :: _sign(c)])


def _sign(number: int) -> int:
    return -1 if number < 0 else 1

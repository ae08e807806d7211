"""Decoded streams on the recording's timeline: audio without gaps, video as encoded frames."""

import math
from dataclasses import dataclass

import numpy as np
from av import AudioFrame, AudioResampler, VideoFrame
from av.video.reformatter import VideoReformatter

from features.reasons import MediaError, Reason
from pipelines.media.pixels import encode_jpeg, shrink

MAX_JITTER_S = 0.02  # timestamps are rounded (to 1 ms in Matroska); what differs more is a gap or an overlap
MAX_GAP_S = 3600.0  # a longer gap is a broken timestamp, and filling it would fill the memory
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


class AudioCollector:
    """Decoded audio frames to one mono wave.

    Frames that follow each other form a run, resampled as one; runs are laid at their real start, with silence in the
    gaps, and cut where they overlap what was there before.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._parts: list[np.ndarray] = []
        self._num_samples = 0  # in the parts
        self._start_s = 0.0
        self._num_to_cut = 0
        self._kind: tuple[int, str, str] | None = None
        self._resampler: AudioResampler | None = None
        self._run_start_s = 0.0
        self._run_input_s = 0.0
        self.end_s = -math.inf  # of what was decoded

    def add(self, frame: AudioFrame, time_s: float) -> None:
        """Append a frame that sounds at time_s. Raises MediaError UNDECODABLE for a gap above MAX_GAP_S."""
        kind = (frame.sample_rate, frame.layout.name, frame.format.name)
        expected_s = self._run_start_s + self._run_input_s
        if kind != self._kind or abs(time_s - expected_s) > MAX_JITTER_S:
            self._begin_run(kind, time_s)
        frame.pts = None  # the run has its own clock
        self._append(frame)
        self._run_input_s += frame.samples / frame.sample_rate
        self.end_s = max(self.end_s, self._run_start_s + self._run_input_s)

    def finish(self) -> AudioTrack | None:
        self._append(None)
        if not self._num_samples:
            return None
        return AudioTrack(np.concatenate(self._parts), self._rate_hz, self._start_s)

    def _begin_run(self, kind: tuple[int, str, str], time_s: float) -> None:
        self._append(None)
        self._kind, self._run_start_s, self._run_input_s = kind, time_s, 0.0
        # 32-bit integers, since for floating point the sum of two equal channels would come out 3 dB louder.
        self._resampler = AudioResampler(format="s32", layout="mono", rate=self._rate_hz)
        if not self._num_samples:
            self._start_s = time_s
        gap = round((time_s - self._start_s) * self._rate_hz) - self._num_samples
        if gap > MAX_GAP_S * self._rate_hz:
            raise MediaError(
                Reason.UNDECODABLE,
                f"audio timestamps jump by {gap / self._rate_hz:.0f} s to {time_s:.3f} s; {MAX_GAP_S:.0f} s is allowed",
            )
        self._num_to_cut = max(0, -gap)
        self._keep(np.zeros(max(0, gap), np.float32))

    def _append(self, frame: AudioFrame | None) -> None:
        """Resample and keep a frame; None takes what the resampler holds back."""
        for out in self._resampler.resample(frame) if self._resampler else []:
            wave_T = (out.to_ndarray()[0] / 2.0**31).astype(np.float32)
            self._keep(wave_T[self._num_to_cut :])
            self._num_to_cut = max(0, self._num_to_cut - len(wave_T))

    def _keep(self, wave_T: np.ndarray) -> None:
        self._parts.append(wave_T)
        self._num_samples += len(wave_T)


class VideoCollector:
    """Decoded pictures to JPEG, at most one in each step of a grid, each with its own presentation time."""

    def __init__(self, rate_hz: float, size_px: int, frame_s: float) -> None:
        """frame_s: how long a frame is shown that does not say so itself."""
        self._rate_hz = rate_hz
        self._size_px = size_px
        self._frame_s = frame_s
        self._reformatter = VideoReformatter()
        self._last_step = -math.inf
        self._frames: list[bytes] = []
        self._times_s: list[float] = []
        self.end_s = -math.inf  # of what was decoded

    def add(self, frame: VideoFrame, time_s: float) -> None:
        """Keep the picture shown from time_s if it is the first of its step."""
        shown_s = float(frame.duration * frame.time_base) if frame.duration else self._frame_s
        self.end_s = max(self.end_s, time_s + shown_s)
        step = math.floor((time_s + _EARLY_S) * self._rate_hz)
        if step > self._last_step:
            self._last_step = step
            pixels_HWC = self._reformatter.reformat(frame, format="bgr24", threads=1).to_ndarray()
            self._frames.append(encode_jpeg(_upright(shrink(pixels_HWC, self._size_px), frame)))
            self._times_s.append(time_s)

    def finish(self) -> VideoTrack | None:
        return VideoTrack(self._frames, self._times_s, self.end_s) if self._frames else None


def _upright(pixels_HWC: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Turn by the display matrix, whose angle counts counterclockwise; a camera writes quarter turns only."""
    return np.ascontiguousarray(np.rot90(pixels_HWC, k=round(frame.rotation / 90)))

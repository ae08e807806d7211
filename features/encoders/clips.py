"""Clips of a video for a network that sees several frames at once: where they lie, and which frames they take."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.encoders.base import Media, Prepared, Video
from features.encoders.images import Transform, decode_image
from features.reasons import MediaError, Reason

_UNCOVERED = 1e-6  # of a hop: less than this at the end of a video is the rounding of its times


@dataclass(frozen=True)
class Sampling:
    """frames of a clip, taken at rate_hz; clips start hop_s apart."""

    frames: int
    rate_hz: float
    hop_s: float

    @property
    def length_s(self) -> float:
        return self.frames / self.rate_hz


ONE_AFTER_THE_OTHER = 0.0  # of the option hop_s


def sample_at(frames: int, rate_hz: float, hop_s: float) -> Sampling:
    """The sampling that options ask for."""
    return Sampling(frames, float(rate_hz), float(hop_s) or frames / float(rate_hz))


def place_clips(video: Video, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """The frames of each clip, and the stretch that it covers.

    Clips start with the first frame and then every hop_s; the last one ends with the video, so that it holds as much
    of it as the others. A video shorter than a clip is one clip, in which its last frame is repeated. Each frame is the
    one nearest in time, of two the earlier, so frames also repeat in a video of a lower rate.
    Returns int64 [clip, frame], places in video.frames, and float64 [clip, (start, end)], seconds.
    """
    times_T = np.maximum(np.asarray(video.times_s, np.float64), 0.0)  # what was on screen before is at the beginning
    spare_s = max(0.0, video.end_s - float(times_T[0]) - sampling.length_s)
    num_hops = math.ceil(spare_s / sampling.hop_s - _UNCOVERED)
    starts_K = times_T[0] + np.minimum(np.arange(num_hops + 1) * sampling.hop_s, spare_s)
    wanted_KF = starts_K[:, None] + np.arange(sampling.frames) / sampling.rate_hz
    after_KF = np.searchsorted(times_T, wanted_KF)
    before_KF = np.maximum(after_KF - 1, 0)
    after_KF = np.minimum(after_KF, len(times_T) - 1)
    is_before_KF = wanted_KF - times_T[before_KF] <= times_T[after_KF] - wanted_KF
    ends_K = np.minimum(starts_K + sampling.length_s, video.end_s)
    return np.where(is_before_KF, before_KF, after_KF), np.stack([starts_K, ends_K], axis=1)


def prepare_clips(transform: Transform, sampling: Sampling, media: Media) -> Prepared:
    """A video as one unit a clip, float32 [frame, channel, height, width], decoded when it is taken."""
    if not isinstance(media, Video):
        raise TypeError(f"an encoder of clips takes videos, not {type(media).__name__}")
    if not media.frames:
        raise MediaError(Reason.EMPTY, "a video without frames")
    frames_KF, times_K2 = place_clips(media, sampling)
    return Prepared(_cut(transform, media.frames, frames_KF), times_K2)


def _cut(transform: Transform, frames: Sequence[bytes], frames_KF: np.ndarray) -> Iterator[np.ndarray]:
    """The clips; a frame that the next clip takes too is not decoded again."""
    shaped: dict[int, np.ndarray] = {}
    for clip in frames_KF.tolist():
        kept = {frame: shaped[frame] for frame in clip if frame in shaped}
        shaped = kept | {
            frame: transform(decode_image(frames[frame])) for frame in dict.fromkeys(clip) if frame not in kept
        }
        yield np.stack([shaped[frame] for frame in clip])

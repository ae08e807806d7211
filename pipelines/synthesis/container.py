"""Writing a recording to an mp4 file."""

import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipelines.synthesis.picture import RATE_HZ, SIZE_PX
from pipelines.synthesis.speech import VOICE_RATE_HZ

_AUDIO_BIT_RATE = 64_000
_AAC_SAMPLES = 1024  # what AAC codes at once
_BITEXACT = {"flags": "+bitexact"}


def write_mp4(path: Path, frames: Iterable[np.ndarray], wave_T: np.ndarray | None, *, index_first: bool = True) -> None:
    """Write H.264 and AAC such that the same input gives the same bytes.

    frames: at RATE_HZ, the planes of yuv420p, uint8 [3 * SIZE_PX / 2, SIZE_PX]; wave_T: float32 [sample] mono at
    VOICE_RATE_HZ, None for no audio stream. index_first: the index comes before the media, so that a file that is
    cut off later still opens.
    """
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if index_first else {})
    with av.open(str(path), "w", format="mp4", options=options) as output:
        video = output.add_stream("libx264", rate=RATE_HZ, options=_BITEXACT | {"preset": "veryfast", "crf": "32"})
        video.width, video.height, video.pix_fmt = SIZE_PX, SIZE_PX, "yuv420p"
        video.codec_context.thread_count = 1  # where x264 cuts its work depends on the number of threads
        encoders = {av.VideoFrame: video}
        timelines = [_video_frames(frames)]
        if wave_T is not None:
            audio = output.add_stream("aac", rate=VOICE_RATE_HZ, layout="mono", options=_BITEXACT)
            audio.bit_rate = _AUDIO_BIT_RATE
            encoders[av.AudioFrame] = audio
            timelines.append(_audio_frames(wave_T))
        for frame in heapq.merge(*timelines, key=lambda frame: frame.time):
            output.mux(encoders[type(frame)].encode(frame))
        for encoder in encoders.values():
            output.mux(encoder.encode(None))


def _video_frames(frames: Iterable[np.ndarray]) -> Iterator[av.VideoFrame]:
    for number, planes in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
        yield frame


def _audio_frames(wave_T: np.ndarray) -> Iterator[av.AudioFrame]:
    for start in range(0, len(wave_T), _AAC_SAMPLES):
        frame = av.AudioFrame.from_ndarray(wave_T[None, start : start + _AAC_SAMPLES], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = VOICE_RATE_HZ, start, Fraction(1, VOICE_RATE_HZ)
        yield frame

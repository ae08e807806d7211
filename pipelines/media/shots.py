"""Shots: where a film cuts, by the content detector of PySceneDetect over the cleaned frames."""

from collections.abc import Sequence
from fractions import Fraction

from pipelines.media.pixels import decode_pixels
from pipelines.media.spans import Span, span

_TICKS_HZ = 1_000_000


def shot_spans(
    frames: Sequence[bytes], times_s: Sequence[float], end_s: float, *, threshold: float, min_s: float
) -> list[Span]:
    """The shots, each from its first frame to the first frame of the next one; the last ends at end_s.

    frames: encoded, at the strictly rising times_s, so that a cut is found as exactly as frames were kept: a quarter
    of a second late at most with clean.video.rate_hz 4. threshold: mean change of hue, saturation and brightness from
    frame to frame, 0 to 255; min_s: a cut that comes sooner after the one before is a flash, and none.
    Raises MediaError UNDECODABLE.
    """
    from scenedetect.common import FrameTimecode, Timecode
    from scenedetect.detector import FlashFilter
    from scenedetect.detectors import ContentDetector

    suppress = FlashFilter.Mode.SUPPRESS
    detector = ContentDetector(threshold=threshold, min_scene_len=float(min_s), filter_mode=suppress)
    starts_s = [times_s[0]]
    for frame, time_s in zip(frames, times_s, strict=True):
        ticks = Timecode(round((time_s - times_s[0]) * _TICKS_HZ), Fraction(1, _TICKS_HZ))
        if detector.process_frame(FrameTimecode(ticks, fps=Fraction(_TICKS_HZ)), decode_pixels(frame)):
            starts_s.append(time_s)
    return [span(start_s, stop_s) for start_s, stop_s in zip(starts_s, [*starts_s[1:], end_s], strict=True)]

"""Shots of a film whose cuts are known."""

import numpy as np
import pytest

from features.reasons import MediaError
from pipelines.media.pixels import encode_jpeg
from pipelines.media.shots import shot_spans


def film(scenes: str) -> list[bytes]:
    """A frame a letter: each scene has a colour of its own, and moves a little."""
    rng = np.random.default_rng(0)
    colours = {letter: rng.integers(0, 255, 3) for letter in sorted(set(scenes))}
    frames = []
    for index, letter in enumerate(scenes):
        pixels_HWC = np.full((48, 64, 3), colours[letter], np.uint8)
        pixels_HWC[10:14, index : index + 4] = 255
        frames.append(encode_jpeg(pixels_HWC))
    return frames


def shots(frames: list[bytes], times_s: list[float], end_s: float, **params: float) -> list[tuple[float, float]]:
    spans = shot_spans(frames, times_s, end_s, **{"threshold": 27.0, "min_s": 0.5, **params})
    return [(one["start_s"], one["end_s"]) for one in spans]


def test_shots_begin_with_their_first_frame_at_whatever_times() -> None:
    times_s = [-0.25, 0.0, 0.25, 0.5, 0.9, 1.0, 1.5, 2.0]
    assert shots(film("aaabbbcc"), times_s, 2.2) == [(-0.25, 0.5), (0.5, 1.5), (1.5, 2.2)]


def test_a_film_without_cuts_is_one_shot() -> None:
    times_s = [index / 4 for index in range(8)]
    assert shots(film("aaaaaaaa"), times_s, 2.0) == [(0.0, 2.0)]
    assert shots(film("a"), [0.5], 0.75) == [(0.5, 0.75)]


def test_a_flash_is_no_shot() -> None:
    times_s = [index / 4 for index in range(8)]
    assert shots(film("aaabaaaa"), times_s, 2.0) == [(0.0, 0.75), (0.75, 2.0)]
    assert shots(film("aaabaaaa"), times_s, 2.0, min_s=0.25) == [(0.0, 0.75), (0.75, 1.0), (1.0, 2.0)]


def test_a_higher_threshold_sees_fewer_cuts() -> None:
    times_s = [index / 4 for index in range(8)]
    assert shots(film("aaaabbbb"), times_s, 2.0, threshold=250.0) == [(0.0, 2.0)]


def test_shots_of_frames_that_cannot_be_decoded_are_an_error() -> None:
    with pytest.raises(MediaError, match="neither JPEG nor PNG"):
        shots([b"no image"], [0.0], 1.0)

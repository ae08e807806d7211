"""The pictures of a recording: which are kept, when they are shown, and which way up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media_files import HEIGHT_PX, WIDTH_PX, Script, write_recording
from timed_media import with_matrix

from pipelines.media.container import VideoRequest, decode_recording
from pipelines.media.pixels import decode_pixels
from pipelines.media.tracks import VideoTrack


def pictures(content: bytes) -> VideoTrack | None:
    return decode_recording(content, video=VideoRequest(rate_hz=25, size_px=WIDTH_PX)).video


def test_decode_recording_keeps_real_times_of_a_variable_rate(tmp_path: Path) -> None:
    times_s = [0.0, 0.033, 0.1, 0.101, 0.5, 0.513, 0.9, 1.96]
    content = write_recording(tmp_path / "recording", Script(format="matroska", frame_times_s=times_s))
    recording = decode_recording(content, video=VideoRequest(rate_hz=10, size_px=64))
    assert recording.video is not None
    assert recording.video.times_s == [0.0, 0.1, 0.101, 0.5, 0.513, 0.9, 1.96]  # 0.101 is what 0.1 to 0.5 s shows
    assert recording.audio is None


@pytest.mark.parametrize(("rate_hz", "num_frames"), [(25, 50), (100, 50), (12.5, 25), (10, 20), (1, 2), (0.1, 1)])
def test_decode_recording_thins_frames_to_the_rate(tmp_path: Path, rate_hz: float, num_frames: int) -> None:
    content = write_recording(tmp_path / "recording", Script())
    video = decode_recording(content, video=VideoRequest(rate_hz=rate_hz, size_px=64)).video
    assert video is not None
    assert len(video.frames) == len(video.times_s) == num_frames
    assert video.end_s == pytest.approx(2.0)


def test_decode_recording_keeps_all_frames_whose_times_are_rounded(tmp_path: Path) -> None:
    script = Script(format="matroska", frame_times_s=[round(index / 15, 3) for index in range(30)])
    content = write_recording(tmp_path / "recording", script)
    video = decode_recording(content, video=VideoRequest(rate_hz=15, size_px=64)).video
    assert video is not None
    assert len(video.frames) == 30


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_decode_recording_turns_by_the_display_matrix(tmp_path: Path, rotation: int) -> None:
    upright = pictures(write_recording(tmp_path / "upright", Script()))
    turned = pictures(write_recording(tmp_path / "turned", Script(rotation=rotation)))
    assert upright is not None
    assert turned is not None
    expected_HWC = np.rot90(decode_pixels(upright.frames[0]), rotation // 90).astype(int)
    assert np.abs(decode_pixels(turned.frames[0]).astype(int) - expected_HWC).mean() < 4


@pytest.mark.parametrize(
    ("matrix", "change"),
    [
        ((-1, 0, 0, 1), lambda pixels_HWC: pixels_HWC[:, ::-1]),  # a camera that faces its owner
        ((1, 0, 0, -1), lambda pixels_HWC: pixels_HWC[::-1]),
        ((0, 1, 1, 0), lambda pixels_HWC: pixels_HWC.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda pixels_HWC: pixels_HWC.transpose(1, 0, 2)[::-1, ::-1]),
    ],
)
def test_decode_recording_mirrors_by_the_display_matrix(
    tmp_path: Path, matrix: tuple[int, int, int, int], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    content = write_recording(tmp_path / "upright", Script())
    upright, mirrored = pictures(content), pictures(with_matrix(content, *matrix))
    assert upright is not None
    assert mirrored is not None
    expected_HWC = change(decode_pixels(upright.frames[0])).astype(int)
    assert np.abs(decode_pixels(mirrored.frames[0]).astype(int) - expected_HWC).mean() < 4


def test_decode_recording_shrinks_frames(tmp_path: Path) -> None:
    content = write_recording(tmp_path / "recording", Script())
    video = decode_recording(content, video=VideoRequest(rate_hz=1, size_px=WIDTH_PX // 2)).video
    assert video is not None
    assert decode_pixels(video.frames[0]).shape == (HEIGHT_PX // 2, WIDTH_PX // 2, 3)

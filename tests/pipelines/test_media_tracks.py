import av
import numpy as np
import pytest
from media_files import pixels

from features.reasons import MediaError, Reason
from pipelines.media.pixels import decode_pixels
from pipelines.media.tracks import AudioCollector, VideoCollector

RATE_HZ = 16_000


def sound(value: float, num_samples: int = 160, *, rate_hz: int = RATE_HZ, layout: str = "mono") -> av.AudioFrame:
    num_channels = {"mono": 1, "stereo": 2}[layout]
    frame = av.AudioFrame.from_ndarray(np.full((num_channels, num_samples), value, np.float32), "fltp", layout)
    frame.sample_rate = rate_hz
    return frame


def collect(*timed: tuple[float, av.AudioFrame]) -> tuple[list[float], float]:
    """The wave's values, rounded and without repeats, and its start; and what it lasts must be as it should."""
    collector = AudioCollector(RATE_HZ)
    for time_s, frame in timed:
        collector.add(frame, time_s)
    track = collector.finish()
    assert track is not None
    return np.round(track.wave_T, 3).tolist(), track.start_s


def test_audio_collector_ignores_rounded_times() -> None:
    wave, start_s = collect(*((round(index * 0.01 + 0.0049, 3), sound(0.5)) for index in range(20)))
    assert (wave, start_s) == ([0.5] * 3200, 0.005)


def test_audio_collector_fills_a_gap() -> None:
    wave, start_s = collect((1.0, sound(0.5)), (1.05, sound(0.25)))
    assert (wave, start_s) == ([0.5] * 160 + [0.0] * 640 + [0.25] * 160, 1.0)


def test_audio_collector_cuts_an_overlap() -> None:
    wave, _ = collect((0.0, sound(0.5, 1600)), (0.05, sound(0.25, 1600)), (0.15, sound(0.75)))
    assert wave == [0.5] * 1600 + [0.25] * 800 + [0.75] * 160


def test_audio_collector_cuts_what_lies_wholly_in_the_past() -> None:
    wave, _ = collect((0.0, sound(0.5, 1600)), (0.05, sound(0.25)), (0.06, sound(0.25)), (0.1, sound(0.75)))
    assert wave == [0.5] * 1600 + [0.75] * 160


def test_audio_collector_follows_a_clock_that_drifts() -> None:
    wave, _ = collect(*((index * 0.0101, sound(0.5)) for index in range(1000)))
    assert len(wave) / RATE_HZ == pytest.approx(10.1, abs=0.02)


def test_audio_collector_takes_a_change_of_format() -> None:
    wave, _ = collect((0.0, sound(0.5)), (0.01, sound(0.5, 480, rate_hz=48_000, layout="stereo")))
    assert len(wave) == 320
    assert np.abs(np.array(wave) - 0.5).max() < 0.01


def test_audio_collector_rejects_a_broken_timestamp() -> None:
    with pytest.raises(MediaError, match="jump by 95443 s") as caught:
        collect((0.0, sound(0.5)), (95_443.0, sound(0.5)))
    assert caught.value.reason == Reason.UNDECODABLE


def test_audio_collector_of_nothing_has_no_track() -> None:
    assert AudioCollector(RATE_HZ).finish() is None


def test_video_collector_keeps_one_frame_a_step() -> None:
    collector = VideoCollector(rate_hz=10, size_px=32, frame_s=0.04)
    frame = av.VideoFrame.from_ndarray(pixels(), format="rgb24")
    for time_s in (0.0, 0.05, 0.0999, 0.15, 0.1, 0.31, 0.39, 0.4):
        collector.add(frame, time_s)
    track = collector.finish()
    assert track is not None
    assert track.times_s == [0.0, 0.0999, 0.31, 0.4]
    assert track.end_s == pytest.approx(0.44)
    assert decode_pixels(track.frames[0]).shape == (24, 32, 3)

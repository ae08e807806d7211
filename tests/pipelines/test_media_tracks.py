from collections.abc import Sequence
from itertools import accumulate, pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import pixels

from features.reasons import MediaError, Reason
from pipelines.media.pixels import decode_pixels
from pipelines.media.tracks import AudioCollector, VideoCollector, settle

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
        collector.add(frame, time_s, time_s)
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


def test_audio_collector_rejects_a_rate_that_no_sound_has() -> None:
    with pytest.raises(MediaError, match="said to have 1 samples a second; 1000 is the least") as caught:
        collect((0.0, sound(0.5, rate_hz=1)))
    assert caught.value.reason == Reason.UNDECODABLE


def test_audio_collector_of_nothing_has_no_track() -> None:
    assert AudioCollector(RATE_HZ).finish() is None


def test_audio_collector_of_less_than_a_sample_has_no_track() -> None:
    collector = AudioCollector(RATE_HZ)
    collector.add(sound(0.5, 1, rate_hz=2_000_000_000), 0.0, 0.0)
    assert collector.finish() is None


def kept_s(times_s: Sequence[float], *, end_s: float, rate_hz: float) -> list[float]:
    collector = VideoCollector(rate_hz=rate_hz, size_px=8)
    frame = av.VideoFrame.from_ndarray(pixels(8, 8), format="rgb24")
    for start_s, stop_s in pairwise([*times_s, end_s]):
        collector.add(frame, start_s, stop_s)
    track = collector.finish()
    assert track is not None
    assert len(track.frames) == len(track.times_s)
    assert track.end_s == end_s
    return track.times_s


def test_video_collector_keeps_one_frame_a_step() -> None:
    assert kept_s([0.0, 0.05, 0.0999, 0.15, 0.1, 0.21, 0.29, 0.3], end_s=0.34, rate_hz=10) == [0.0, 0.0999, 0.21, 0.3]


def test_video_collector_keeps_what_stays_on_screen() -> None:
    slides_s = [0.0, 0.04, 10.0, 10.2, 20.2]
    assert kept_s(slides_s, end_s=30.0, rate_hz=4) == slides_s


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=30), st.sampled_from([0.5, 4.0, 10.0]))
def test_video_collector_keeps_whatever_is_shown_for_two_steps(lengths_ms: list[int], rate_hz: float) -> None:
    *times_ms, end_ms = accumulate(lengths_ms, initial=0)
    kept = kept_s([time / 1000 for time in times_ms], end_s=end_ms / 1000, rate_hz=rate_hz)
    stay_s = [time / 1000 for time, length in zip(times_ms, lengths_ms, strict=True) if length >= 2000 / rate_hz + 4]
    assert set(stay_s) <= set(kept)
    assert kept == sorted(set(kept))
    assert len(kept) <= end_ms / 1000 * rate_hz + 1


def test_video_collector_shrinks() -> None:
    collector = VideoCollector(rate_hz=10, size_px=32)
    collector.add(av.VideoFrame.from_ndarray(pixels(), format="rgb24"), 0.0, 0.04)
    track = collector.finish()
    assert track is not None
    assert decode_pixels(track.frames[0]).shape == (24, 32, 3)


def test_settle_leaves_noisy_timestamps_alone() -> None:
    places_s = np.arange(500) * 0.02
    noise_s = np.random.default_rng(0).uniform(-0.006, 0.006, 500)
    noise_s[0] = 0.0
    assert settle((3 + places_s + noise_s).tolist(), places_s.tolist()) == [(3.0, 0.0)]


def test_settle_finds_the_frame_after_a_loss() -> None:
    """Ten milliseconds are lost before frame 200, and again before frame 300: no more than noise may be."""
    places_s = np.arange(500) * 0.02
    lost_s = np.repeat([0.0, 0.01, 0.02], [200, 100, 200])
    noise_s = np.random.default_rng(0).uniform(-0.0005, 0.0005, 500)
    noise_s[0] = 0.0
    pieces = settle((places_s + lost_s + noise_s).tolist(), places_s.tolist())
    assert [place_s for _, place_s in pieces] == pytest.approx([0.0, 4.0, 6.0])
    assert [time_s - place_s for time_s, place_s in pieces] == pytest.approx([0.0, 0.01, 0.02], abs=1e-3)


@given(st.floats(-5e-3, 5e-3), st.integers(2, 400))
def test_settle_keeps_a_drifting_clock_near(drift: float, num_frames: int) -> None:
    places_s = np.arange(num_frames) * 0.0213
    times_s = places_s * (1 + drift)
    pieces = settle(times_s.tolist(), places_s.tolist())
    starts_s, at_s = zip(*pieces, strict=True)
    piece_F = np.searchsorted(np.array(at_s) - 1e-9, places_s, side="right") - 1
    laid_s = np.array(starts_s)[piece_F] + places_s - np.array(at_s)[piece_F]
    assert np.abs(laid_s - times_s).max() < 0.0085  # 3 ms, and a second of drift at the ends

import numpy as np
import pytest

from pipelines.synthesis.handwriting import load_handwriting
from pipelines.synthesis.picture import RATE_HZ, SIZE_PX, draw_frames
from pipelines.synthesis.script import Interval


def draw(noise: float, seed: int = 0, intervals: int = 1) -> np.ndarray:
    glyphs, _ = load_handwriting()
    shown = [Interval(0.2 + number, 0.8 + number, 0.3 + number) for number in range(intervals)]
    frames = draw_frames(list(glyphs[:intervals]), shown, RATE_HZ * intervals, noise, np.random.default_rng(seed))
    return np.stack(list(frames))


def test_load_handwriting_is_ink_on_paper() -> None:
    glyphs, labels = load_handwriting()
    assert glyphs.shape[1:] == (8, 8)
    assert (glyphs.min(), glyphs.max(), sorted(set(labels.tolist()))) == (0, 1, list(range(10)))


def test_draw_frames_gives_planes_of_yuv420p() -> None:
    frames = draw(noise=0.2)
    assert frames.shape == (RATE_HZ, SIZE_PX * 3 // 2, SIZE_PX)
    assert frames.dtype == np.uint8


def test_draw_frames_shows_the_digit_in_its_interval_alone() -> None:
    brightest = draw(noise=0)[:, :SIZE_PX].reshape(RATE_HZ, -1).max(axis=1).astype(int)
    times_s = np.arange(RATE_HZ) / RATE_HZ
    shown = (times_s >= 0.2) & (times_s < 0.8)
    assert brightest[shown].min() > brightest[~shown].max() + 20


def test_draw_frames_moves_the_ground() -> None:
    first, second = draw(noise=0)[:2]
    assert (first != second).any()


def test_draw_frames_draws_noise_anew_each_frame() -> None:
    noise = draw(noise=0.2)[:2, :SIZE_PX].astype(float) - draw(noise=0)[:2, :SIZE_PX]
    assert noise.std() == pytest.approx(0.2 * 90, rel=0.05)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_draw_frames_same_seed_same_bytes() -> None:
    assert draw(0.3, seed=5, intervals=2).tobytes() == draw(0.3, seed=5, intervals=2).tobytes()
    assert draw(0.3, seed=5).tobytes() != draw(0.3, seed=6).tobytes()

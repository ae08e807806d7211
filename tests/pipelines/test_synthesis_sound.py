import numpy as np
import pytest

from pipelines.synthesis.sound import Noise, add_noise, make_noise, place_words

RATE_HZ = 16_000


@pytest.mark.parametrize("kind", list(Noise))
@pytest.mark.parametrize("num_samples", [1, 2, 999, 3 * RATE_HZ])
def test_make_noise_has_unit_power_at_any_length(kind: Noise, num_samples: int) -> None:
    noise_T = make_noise(kind, num_samples, RATE_HZ, np.random.default_rng(0))
    assert noise_T.shape == (num_samples,)
    assert np.mean(np.square(noise_T)) == pytest.approx(1, rel=1e-4)


def test_make_noise_is_pink_where_it_says_so() -> None:
    def share_below(kind: Noise, hz: float) -> float:
        power = np.abs(np.fft.rfft(make_noise(kind, 4 * RATE_HZ, RATE_HZ, np.random.default_rng(0)))) ** 2
        return float(power[: int(hz * 4)].sum() / power.sum())

    assert share_below(Noise.WHITE, 800) == pytest.approx(0.1, abs=0.02)
    assert share_below(Noise.PINK, 800) > 0.6


def test_make_noise_babble_swells() -> None:
    def loudest_to_faintest(kind: Noise) -> float:
        noise_T = make_noise(kind, 4 * RATE_HZ, RATE_HZ, np.random.default_rng(0))
        powers = np.square(noise_T).reshape(-1, RATE_HZ // 20).mean(axis=1)
        return float(np.quantile(powers, 0.9) / np.quantile(powers, 0.1))

    assert loudest_to_faintest(Noise.BABBLE) > 3 * loudest_to_faintest(Noise.PINK)


def test_place_words_is_silent_between_words() -> None:
    words = [np.ones(160, np.float32), -np.ones(80, np.float32)]
    wave_T = place_words(words, [0.01, 0.05], 1600, RATE_HZ)
    assert np.flatnonzero(wave_T).tolist() == [*range(160, 320), *range(800, 880)]
    assert (wave_T[160], wave_T[800]) == (0.25, -0.25)


@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 12.0])
def test_add_noise_reaches_the_ratio_where_the_voice_is(snr_db: float) -> None:
    rng = np.random.default_rng(0)
    tone_T = np.sin(np.arange(4000) * 0.3).astype(np.float32)
    voice_T = place_words([tone_T], [0.1], 2 * RATE_HZ, RATE_HZ)
    mixed_T = add_noise(voice_T, make_noise(Noise.WHITE, len(voice_T), RATE_HZ, rng), snr_db)
    noise_power = np.mean(np.square(mixed_T - voice_T))
    voice_power = np.mean(np.square(voice_T[voice_T != 0]))
    assert 10 * np.log10(voice_power / noise_power) == pytest.approx(snr_db, abs=0.1)


def test_add_noise_never_leaves_full_scale() -> None:
    voice_T = np.full(1000, 0.25, np.float32)
    mixed_T = add_noise(voice_T, make_noise(Noise.WHITE, 1000, RATE_HZ, np.random.default_rng(0)), -40.0)
    assert np.abs(mixed_T).max() == 1

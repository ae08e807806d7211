"""The sound of a recording: words on a timeline over background noise."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

_VOICE_PEAK = 0.25  # leaves room for noise as loud as the voice
_SYLLABLES_HZ = 4.0


class Noise(StrEnum):
    """What is heard behind the voice."""

    WHITE = "white"
    PINK = "pink"
    BABBLE = "babble"  # pink noise that swells and fades like syllables of people talking


def make_noise(kind: Noise, num_samples: int, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Background noise, float32 [sample], mean square 1."""
    noise_T = rng.standard_normal(num_samples)
    if kind is not Noise.WHITE:
        spectrum = np.fft.rfft(noise_T)
        spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
        noise_T = np.fft.irfft(spectrum, n=num_samples)
    if kind is Noise.BABBLE:
        num_swells = max(2, int(num_samples / rate_hz * 2 * _SYLLABLES_HZ))
        swell = np.interp(np.linspace(0, num_swells - 1, num_samples), np.arange(num_swells), rng.random(num_swells))
        noise_T = noise_T * swell
    noise_T /= np.sqrt(np.mean(np.square(noise_T)))
    return noise_T.astype(np.float32)


def place_words(words: Sequence[np.ndarray], starts_s: Sequence[float], num_samples: int, rate_hz: int) -> np.ndarray:
    """The words at their times on an otherwise silent wave, float32 [sample]; they must not overlap or reach beyond."""
    wave_T = np.zeros(num_samples, dtype=np.float32)
    for word_T, start_s in zip(words, starts_s, strict=True):
        start = round(start_s * rate_hz)
        wave_T[start : start + len(word_T)] = word_T * _VOICE_PEAK
    return wave_T


def add_noise(voice_T: np.ndarray, noise_T: np.ndarray, snr_db: float) -> np.ndarray:
    """Mix the voice with noise so that the voice, where there is any, stands snr_db above it; within -1 and 1."""
    power = float(np.mean(np.square(voice_T[voice_T != 0])))
    level = np.sqrt(power / 10 ** (snr_db / 10))
    mixed: np.ndarray = np.clip(voice_T + noise_T * np.float32(level), -1, 1)
    return mixed

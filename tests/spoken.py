"""Speech with known word times: words said one by one, with pauses between them."""

from collections.abc import Sequence

import numpy as np

from pipelines.synthesis.speech import VOICE_RATE_HZ, Voice, say_words

VOICE = Voice("en-us", "m3", 150, 50)
RATE_HZ = VOICE_RATE_HZ


def speak(
    text: str, *, voice: Voice = VOICE, pause_s: float = 0.15, lead_s: float = 0.3, noise: float = 0.003
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """float32 [sample] at RATE_HZ, and start and end of each word, exact to a sample."""
    rng = np.random.default_rng(0)
    pieces, times = [np.zeros(round(lead_s * RATE_HZ))], []
    num_samples = len(pieces[0])
    for word_T in say_words(text.split(), voice):
        times.append((num_samples / RATE_HZ, (num_samples + len(word_T)) / RATE_HZ))
        pieces += [0.5 * word_T, np.zeros(round(pause_s * RATE_HZ))]
        num_samples += len(word_T) + len(pieces[-1])
    wave_T = np.concatenate(pieces)
    return (wave_T + noise * rng.standard_normal(len(wave_T))).astype(np.float32), times


def errors_s(found: Sequence[tuple[float, float]], known: Sequence[tuple[float, float]]) -> np.ndarray:
    """float64 [boundary], magnitudes."""
    return np.abs(np.array(found) - np.array(known)).ravel()

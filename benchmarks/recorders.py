"""Two recorders of one event whose offset and drift are known: speech, rooms, microphones, noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.signal import firwin2, lfilter, oaconvolve

from pipelines.synthesis.speech import VOICE_RATE_HZ, choose_voice, say_words

RATE_HZ = 16_000
NOISES = ("white", "pink", "babble")
_NUM_VOICES = 8
_MEAN_PAUSE_S = 0.3
_NUM_BABBLERS = 6
_REVERBERATION_S = 0.3  # until it is 60 dB down
_DIRECT_S = 0.002  # after it the room answers
_NUM_TAPS = 255
# Poles and zeros of Paul Kellet's filter that turns white noise pink, as published on musicdsp.org.
_PINK = ([0.049922035, -0.095993537, 0.050612699, -0.004408786], [1, -2.494956002, 2.017265875, -0.522189400])
_TEXT = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by word but
not what all were we when your can said there use an each which she do how their if will up other about out many
then them these so some her would make like him into time has look two more write go see number no way could
people my than first water been call who oil its now find long down day did get come made may part
"""


@dataclass(frozen=True)
class Pair:
    """A sound at t of other_T is at offset_s + t * (1 + drift_ppm * 1e-6) of reference_T; float32 at RATE_HZ."""

    reference_T: np.ndarray
    other_T: np.ndarray
    offset_s: float
    drift_ppm: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a pair is like; offset and drift are drawn from the seed, evenly up to their bounds."""

    seed: int
    noise: str
    snr_db: float = 0.0
    reference_s: float = 3600.0
    other_s: float = 3600.0
    max_offset_s: float = 600.0
    max_drift_ppm: float = 200.0


def generated_utterances(num: int) -> list[np.ndarray]:
    """Sentences of common words in random order, by several voices of espeak-ng."""
    rng = np.random.default_rng(0)
    spoken = []
    for _ in range(_NUM_VOICES):
        texts = [" ".join(rng.choice(_TEXT.split(), rng.integers(4, 12))) for _ in range(num // _NUM_VOICES)]
        for wave_T in say_words(texts, choose_voice(rng)):
            spoken.append(soxr.resample(wave_T, VOICE_RATE_HZ, RATE_HZ).astype(np.float32))
    return spoken


def real_utterances(folder: Path) -> list[np.ndarray]:
    """The recordings of a folder, each at a peak of 1."""
    spoken = []
    for path in sorted(folder.rglob("*.wav")):
        wave_T, rate_hz = soundfile.read(path, dtype="float32")
        spoken.append(soxr.resample(wave_T / np.abs(wave_T).max(), rate_hz, RATE_HZ).astype(np.float32))
    return spoken


def make_pair(case: Case, utterances: Sequence[np.ndarray], crowd: Sequence[np.ndarray]) -> Pair:
    """The event is the utterances in random order; the other recorder's clock is soxr's resampling of it. The crowd's
    utterances are what babbles beside each recorder."""
    rng = np.random.default_rng(case.seed)
    offset_s = round(rng.uniform(-case.max_offset_s, case.max_offset_s) * RATE_HZ) / RATE_HZ
    drift_ppm = float(rng.uniform(-case.max_drift_ppm, case.max_drift_ppm))
    first_s = min(0.0, offset_s)
    last_s = max(case.reference_s, offset_s + case.other_s * (1 + case.max_drift_ppm * 1e-6)) + 1
    event_T = _speak(utterances, last_s - first_s, rng)
    reference_T = event_T[round(-first_s * RATE_HZ) :][: round(case.reference_s * RATE_HZ)]
    warped_T = warp(event_T[round((offset_s - first_s) * RATE_HZ) :], drift_ppm)[: round(case.other_s * RATE_HZ)]
    recorded = [_record(wave_T, case, rng, crowd) for wave_T in (reference_T, warped_T)]
    return Pair(recorded[0], recorded[1], offset_s, drift_ppm)


def warp(event_T: np.ndarray, drift_ppm: float) -> np.ndarray:
    """What a clock records whose second lasts 1 + drift_ppm * 1e-6 seconds: sample i is the event at that many."""
    return soxr.resample(event_T, RATE_HZ * (1 + drift_ppm * 1e-6), RATE_HZ, quality="HQ")


def _speak(utterances: Sequence[np.ndarray], duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """float32 [sample]: utterances in random order at different levels, with pauses between them."""
    event_T = np.zeros(round(duration_s * RATE_HZ), np.float32)
    at, order = 0, np.zeros(0, np.int64)
    while at < len(event_T):
        if not len(order):
            order = rng.permutation(len(utterances))
        wave_T, order = utterances[order[0]][: len(event_T) - at], order[1:]
        event_T[at : at + len(wave_T)] = wave_T * np.float32(rng.uniform(0.5, 1.0))
        at += len(wave_T) + round(rng.exponential(_MEAN_PAUSE_S) * RATE_HZ)
    return event_T


def _record(event_T: np.ndarray, case: Case, rng: np.random.Generator, crowd: Sequence[np.ndarray]) -> np.ndarray:
    """The event through a room and a microphone of its own, with noise of its own, at some gain."""
    heard_T = oaconvolve(event_T, np.convolve(_room(rng), _microphone(rng)).astype(np.float32))
    heard_T = heard_T[_NUM_TAPS // 2 :][: len(event_T)]
    noise_T = _noise(case.noise, len(event_T), rng, crowd)
    power, noise_power = np.mean(heard_T**2, dtype=np.float64), np.mean(noise_T**2, dtype=np.float64)
    level = np.sqrt(power / noise_power) * 10 ** (-case.snr_db / 20)
    return (heard_T + noise_T * np.float32(level)) * np.float32(rng.uniform(0.02, 0.2) * rng.choice([-1, 1]))


def _room(rng: np.random.Generator) -> np.ndarray:
    """The sound itself, and an echo that fades, as loud as it or up to 6 dB less."""
    times_T = np.arange(round(1.3 * _REVERBERATION_S * RATE_HZ)) / RATE_HZ
    echo_T = rng.standard_normal(len(times_T)) * 10 ** (-3 * times_T / _REVERBERATION_S) * (times_T > _DIRECT_S)
    echo_T *= 10 ** (-rng.uniform(0, 6) / 20) / np.sqrt(np.sum(echo_T**2))
    return np.concatenate([[1.0], echo_T[1:]])


def _microphone(rng: np.random.Generator) -> np.ndarray:
    """Linear phase, so that its delay is known: the bass, the middle and the treble at gains of their own."""
    bass, treble = rng.choice([0.0, 0.3, 1.0]), rng.choice([0.05, 0.5, 1.0])
    gains = [0.2 * bass, bass, 1.0, rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5), treble, treble]
    return firwin2(_NUM_TAPS, [0, 100, 300, 1000, 3000, 5000, RATE_HZ / 2], gains, fs=RATE_HZ)


def _noise(kind: str, num: int, rng: np.random.Generator, crowd: Sequence[np.ndarray]) -> np.ndarray:
    if kind == "babble":
        return sum((_speak(crowd, num / RATE_HZ, rng) for _ in range(_NUM_BABBLERS)), np.float32(0))
    white_T = rng.standard_normal(num, dtype=np.float32)
    return white_T if kind == "white" else lfilter(*_PINK, white_T).astype(np.float32)

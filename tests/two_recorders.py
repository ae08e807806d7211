"""One event, in syllables of noise, as two recorders hear it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import resample

from pipelines.media.audio import to_pcm16

RATE_HZ = 8000
_FINER = 4  # the event's rate over the recorders', so that straight lines between its samples are close enough
_SYLLABLE_S = 0.15
_FILM_HZ = 5


@dataclass(frozen=True)
class Event:
    """wave_T: float32 [sample] at _FINER * RATE_HZ; it begins at first_s of the reference's clock."""

    wave_T: np.ndarray
    first_s: float

    def record(self, duration_s: float, *, offset_s: float = 0.0, drift_ppm: float = 0.0) -> np.ndarray:
        """float32 [sample]: what a recorder holds of it whose time t is offset_s + t * (1 + drift_ppm * 1e-6)."""
        times_s = offset_s + np.arange(round(duration_s * RATE_HZ)) / RATE_HZ * (1 + drift_ppm * 1e-6)
        places = (times_s - self.first_s) * RATE_HZ * _FINER
        return np.interp(places, np.arange(len(self.wave_T)), self.wave_T).astype(np.float32)


def make_event(duration_s: float, seed: int, *, first_s: float = 0.0) -> Event:
    """Noise in syllables of random strength."""
    rng = np.random.default_rng(seed)
    noise_T = rng.standard_normal(round(duration_s * RATE_HZ))
    strengths = rng.exponential(size=round(duration_s / _SYLLABLE_S) + 2) ** 2
    noise_T *= np.interp(np.arange(len(noise_T)) / RATE_HZ / _SYLLABLE_S, np.arange(len(strengths)), strengths)
    fine_T = resample(noise_T, len(noise_T) * _FINER)
    return Event((0.1 * fine_T / np.abs(fine_T).std()).astype(np.float32), first_s)


def with_noise(wave_T: np.ndarray, seed: int, *, snr_db: float = 0.0) -> np.ndarray:
    """The wave with white noise of its own."""
    noise_T = np.random.default_rng([seed, 1]).standard_normal(len(wave_T))  # not the event's own
    level = np.sqrt(np.mean(wave_T.astype(np.float64) ** 2)) * 10 ** (-snr_db / 20)
    return (wave_T + level * noise_T).astype(np.float32)


def write_film(path: Path, wave_T: np.ndarray, *, start_s: float = 0.0) -> None:
    """A film with this sound at RATE_HZ, in Matroska, without loss; the sound begins at start_s, the picture at 0."""
    num_frames = round((start_s + len(wave_T) / RATE_HZ) * _FILM_HZ)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=_FILM_HZ)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE_HZ)
        audio.layout = "mono"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index % 250, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, _FILM_HZ)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(np.frombuffer(to_pcm16(wave_T), "<i2")[None], "s16", "mono")
        sound.sample_rate, sound.pts, sound.time_base = RATE_HZ, round(start_s * RATE_HZ), Fraction(1, RATE_HZ)
        container.mux([*audio.encode(sound), *audio.encode(None)])

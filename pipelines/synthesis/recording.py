"""One generated recording: what it shows and says, and the files it becomes."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from features.rev import seed_of
from features.shards import replacing
from pipelines.synthesis.container import write_mp4
from pipelines.synthesis.handwriting import load_handwriting
from pipelines.synthesis.picture import RATE_HZ, draw_frames
from pipelines.synthesis.recogniser import Recogniser
from pipelines.synthesis.script import DIGIT_WORDS, Interval, Shown, recording_length_s, time_digits
from pipelines.synthesis.sound import Noise, add_noise, make_noise, place_words
from pipelines.synthesis.speech import VOICE_RATE_HZ, choose_voice, say_words

_KEPT_SHARE = 0.55  # of a file that is cut off
_PLAIN_TEXT = "This is a text, whatever its name says.\n"


class Fault(StrEnum):
    """What is wrong with a recording on purpose; the value says it."""

    TRUNCATED = "mp4 cut off in its middle; it opens, for its index comes first"
    NO_INDEX = "mp4 cut off before its index; it does not open"
    SILENT = "audio stream of digital silence"
    COPY = "exact copy of {original}: mp4, transcript and labels"
    NO_TRANSCRIPT = "no transcript beside it"
    NO_AUDIO = "mp4 without an audio stream"
    TEXT = "a text file with the name of an mp4"


@dataclass(frozen=True)
class Recording:
    """What a recording is made of. The number seeds all that is random in it, so equal numbers make equal files."""

    stem: str
    number: int
    shown: tuple[Shown, ...]
    fault: Fault | None = None


@dataclass(frozen=True)
class Studio:
    """Makes recordings under one set of noise levels."""

    seed: int
    recogniser: Recogniser
    picture_noise: float
    voice_snr_db: float

    def make(self, recording: Recording, folder: Path) -> Path:
        """Write the recording's transcript, labels and mp4, in this order, and return the mp4's path."""
        voice_rng = self._rng(recording, "voice")
        digits = [shown.digit for shown in recording.shown]
        words = say_words([DIGIT_WORDS[digit] for digit in digits], choose_voice(voice_rng))
        lengths_s = [len(word) / VOICE_RATE_HZ for word in words]
        intervals = time_digits(lengths_s, self._rng(recording, "times"))
        length_s = recording_length_s(intervals)
        if recording.fault is not Fault.NO_TRANSCRIPT:
            text = self.recogniser.transcribe(digits, intervals, length_s, self._rng(recording, "recogniser"))
            with replacing(folder / f"{recording.stem}.srt") as temporary:
                temporary.write_text(text)
        with replacing(folder / f"{recording.stem}.labels.csv") as temporary:
            _write_labels(temporary, digits, intervals)
        num_frames = int(np.ceil(length_s * RATE_HZ))
        path = folder / f"{recording.stem}.mp4"
        with replacing(path) as temporary:
            wave_T = self._sound(recording, words, intervals, num_frames)
            _write_video(temporary, recording.fault, self._frames(recording, intervals, num_frames), wave_T)
        return path

    def _rng(self, recording: Recording, purpose: str) -> np.random.Generator:
        return np.random.default_rng(seed_of(self.seed, purpose, str(recording.number)))

    def _frames(self, recording: Recording, intervals: Sequence[Interval], num_frames: int) -> Iterator[np.ndarray]:
        glyphs, _ = load_handwriting()
        pictures = [glyphs[shown.picture] for shown in recording.shown]
        return draw_frames(pictures, intervals, num_frames, self.picture_noise, self._rng(recording, "picture"))

    def _sound(
        self, recording: Recording, words: Sequence[np.ndarray], intervals: Sequence[Interval], num_frames: int
    ) -> np.ndarray | None:
        num_samples = num_frames * VOICE_RATE_HZ // RATE_HZ
        if recording.fault is Fault.NO_AUDIO:
            return None
        if recording.fault is Fault.SILENT:
            return np.zeros(num_samples, dtype=np.float32)
        rng = self._rng(recording, "noise")
        voice_T = place_words(words, [interval.voice_s for interval in intervals], num_samples, VOICE_RATE_HZ)
        noise_T = make_noise(Noise(rng.choice(list(Noise))), num_samples, VOICE_RATE_HZ, rng)
        return add_noise(voice_T, noise_T, self.voice_snr_db)


def _write_labels(path: Path, digits: Sequence[int], intervals: Sequence[Interval]) -> None:
    with open(path, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["start_s", "end_s", "label"])
        for digit, interval in zip(digits, intervals, strict=True):
            rows.writerow([f"{interval.start_s:.3f}", f"{interval.end_s:.3f}", digit])


def _write_video(path: Path, fault: Fault | None, frames: Iterator[np.ndarray], wave_T: np.ndarray | None) -> None:
    if fault is Fault.TEXT:
        path.write_text(_PLAIN_TEXT)
        return
    write_mp4(path, frames, wave_T, index_first=fault is not Fault.NO_INDEX)
    if fault in (Fault.TRUNCATED, Fault.NO_INDEX):
        os.truncate(path, int(path.stat().st_size * _KEPT_SHARE))

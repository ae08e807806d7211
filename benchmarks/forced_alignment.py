"""Words found in speech whose word times are known, by how far the found ends are from the known ones.

The speech is espeak-ng's, fluent in several voices, with the times of words that it reports to the sample; and words
said one by one with pauses, cut to the sample. Noise is white. No trained acoustic model travels in a package, so that
what align.forced does with CTC cannot be measured here on speech; tests hold it to emissions made by hand.

    python benchmarks/forced_alignment.py [--quick] [--json]
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from features.reasons import MediaError
from measures import Measure, at_least, show
from pipelines.media.forced.aligning import align_words, split_words
from pipelines.media.forced.english import Pronunciations
from pipelines.media.forced.sphinx import dictionary, find_words
from pipelines.synthesis.speech import VOICE_RATE_HZ, Voice, say_text, say_words

VOICES = (
    Voice("en-us", "m3", 150, 50),
    Voice("gmw/en", "f2", 170, 60),
    Voice("en-us-nyc", "m7", 140, 40),
    Voice("gmw/en-GB-x-rp", "Annie", 160, 55),
)
SENTENCES = (
    "the quick brown fox jumps over seven lazy dogs while twenty cats sleep near a warm roof",
    "she said that nobody could understand why old machines broke down every winter",
    "when people travel abroad they usually carry small bottles of water with them",
    "a careful reader finds several mistakes between pages nine and eleven",
    "my brother plays loud music every evening while our neighbours cook dinner",
)
LEAST = 0.03  # the confidence that params.yaml recommends
PAUSE_S = 0.15


@dataclass(frozen=True)
class Speech:
    """A text said at VOICE_RATE_HZ; known: by place among the words, where that word is, in seconds."""

    text: str
    wave_T: np.ndarray
    known: dict[int, tuple[float, float]]


def say_fluently(text: str, voice: Voice) -> Speech:
    """A word that is said in one with the next has no end of its own, and neither is compared."""
    wave_T, spoken = say_text(text, voice)
    places = [sum(map(len, text.split()[:index])) + index for index in range(len(text.split()))]
    times = {places.index(word.place): (word.start_s, word.end_s) for word in spoken if word.place in places}
    last = len(places) - 1
    return Speech(text, wave_T, {index: times[index] for index in times if index == last or index + 1 in times})


def say_apart(text: str, voice: Voice) -> Speech:
    pause_T = np.zeros(round(PAUSE_S * VOICE_RATE_HZ), np.float32)
    pieces, known, num_samples = [pause_T], {}, len(pause_T)
    for index, word_T in enumerate(say_words(text.split(), voice)):
        known[index] = (num_samples / VOICE_RATE_HZ, (num_samples + len(word_T)) / VOICE_RATE_HZ)
        pieces += [word_T, pause_T]
        num_samples += len(word_T) + len(pause_T)
    return Speech(text, np.concatenate(pieces), known)


def heard(speech: Speech, snr_db: float | None) -> np.ndarray:
    """The wave at half of full scale with a second of stillness around it, all in noise."""
    wave_T = np.pad(0.5 * speech.wave_T, VOICE_RATE_HZ // 2)
    if snr_db is not None:
        level = np.sqrt(np.square(speech.wave_T).mean()) * 0.5 * 10 ** (-snr_db / 20)
        wave_T = wave_T + level * np.random.default_rng(0).standard_normal(len(wave_T))
    return wave_T.astype(np.float32)


def errors_s(speech: Speech, snr_db: float | None, known: Pronunciations | None) -> tuple[list[float], int]:
    """How far each end of each word is from where it should be, and of how many words align would not believe it."""
    wave_T, words = heard(speech, snr_db), split_words(speech.text)
    places = find_words(wave_T, VOICE_RATE_HZ, words, known=known)
    errors = []
    for index, times in speech.known.items():
        found = places[index]
        errors += [abs(end - known - 0.5) for end, known in zip((found.start_s, found.end_s), times, strict=True)]
    try:
        believed = align_words(wave_T, VOICE_RATE_HZ, speech.text, lambda *_: places, min_confidence=LEAST)
    except MediaError:
        return errors, len(words)
    return errors, len(believed.doubtful)


def boundaries(
    name: str, speeches: list[Speech], snr_db: float | None, known: Pronunciations | None = None
) -> Iterator[Measure]:
    found = [errors_s(speech, snr_db, known) for speech in speeches]
    errors = np.array([error for errors, _ in found for error in errors])
    num_words = sum(len(speech.text.split()) for speech in speeches)
    where = f"{name}, " + ("no noise" if snr_db is None else f"{snr_db:g} dB")
    yield Measure(f"{where}: ends of words compared", len(errors), "")
    yield Measure(f"{where}: words not believed", 100 * sum(lost for _, lost in found) / num_words, "%")
    yield Measure(f"{where}: error, median", 1e3 * float(np.median(errors)), "ms")
    yield Measure(f"{where}: error, 90 % are below", 1e3 * float(np.quantile(errors, 0.9)), "ms")
    for bound_ms in (20, 50, 100):
        yield Measure(f"{where}: within {bound_ms} ms", 100 * float((errors <= bound_ms / 1e3).mean()), "%")


def verdicts(speeches: list[Speech], snr_db: float) -> Iterator[Measure]:
    """The text of another recording, of about as many words."""
    refused = 0
    for speech, other in zip(speeches, [*speeches[1:], speeches[0]], strict=True):
        try:
            align_words(heard(speech, snr_db), VOICE_RATE_HZ, other.text, find_words, min_confidence=LEAST)
        except MediaError:
            refused += 1
    yield at_least(f"another text, {snr_db:g} dB: refused", 100 * refused / len(speeches), "%", 100)


def long_recording(minutes: float) -> Iterator[Measure]:
    """A recording without cues, in one go."""
    texts, waves, duration_s = [], [], 0.0
    while duration_s < 60 * minutes:
        speech = say_fluently(SENTENCES[len(texts) % len(SENTENCES)], VOICES[0])
        texts.append(speech.text)
        waves.append(np.pad(0.5 * speech.wave_T, (0, VOICE_RATE_HZ // 2)))
        duration_s += len(waves[-1]) / VOICE_RATE_HZ
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started_s = time.perf_counter()
    aligned = align_words(np.concatenate(waves), VOICE_RATE_HZ, " ".join(texts), find_words, min_confidence=LEAST)
    spent_s = time.perf_counter() - started_s
    grown_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before_bytes
    name = f"{minutes:g} min without cues, {len(aligned.words)} words"
    yield Measure(f"{name}: times as fast as real time", duration_s / spent_s, "times")
    yield Measure(f"{name}: memory, above what was there", grown_bytes / 2**20, "MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one voice, three sentences, one minute")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    voices, sentences, minutes = (VOICES[:1], SENTENCES[:3], 1) if options.quick else (VOICES, SENTENCES, 5)
    fluent = [say_fluently(text, voice) for voice in voices for text in sentences]
    apart = [say_apart(text, voice) for voice in voices for text in sentences]
    for snr_db in (None, 20.0, 10.0, 0.0):
        for measure in boundaries("fluent", fluent, snr_db):
            show(measure, as_json=options.json)
    for snr_db in (None, 20.0):
        for measure in boundaries("word by word", apart, snr_db):
            show(measure, as_json=options.json)
    letters = {word: ways for word, ways in dictionary().items() if len(word) == 1}
    for measure in boundaries("fluent, no word in the dictionary", fluent, 20.0, letters):
        show(measure, as_json=options.json)
    for measure in (*verdicts(fluent, 20.0), *long_recording(minutes)):
        show(measure, as_json=options.json)


if __name__ == "__main__":
    main()

"""Words found in sound: how they are said, what is believed, and the search itself."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoken import RATE_HZ, errors_s, speak

from features.errors import ConfigError
from features.reasons import MediaError, Reason
from pipelines.media.forced.aligning import Place, align_words, split_words
from pipelines.media.forced.english import number_readings, pronounce, spell
from pipelines.media.forced.sphinx import dictionary, find_words, sphinx_settings

SENTENCE = "nobody could understand why these old machines broke down every winter"
OTHER = "my brother plays loud music while our neighbours cook dinner"
LEAST = 0.03


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello,  world - it's 9 o'clock!", ["Hello,", "world", "it's", "9", "o'clock!"]),
        ("[music] so ♪ it goes [laughs loudly]", ["so", "it", "goes"]),
        ("... — !", []),
        ("北京 5 %", ["北京", "5"]),
    ],
)
def test_split_words_keeps_the_spelling_and_drops_what_nobody_says(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("number", "readings"),
    [
        ("7", ["seven"]),
        ("42", ["forty two", "four two"]),
        ("1,000", ["one thousand", "ten hundred", "one zero zero zero"]),
        ("1999", ["one thousand nine hundred ninety nine", "nineteen ninety nine", "one nine nine nine"]),
        ("1905", ["one thousand nine hundred five", "nineteen oh five", "one nine zero five"]),
        ("3.14", ["three point one four"]),
        ("2000000", ["two million", "two zero zero zero zero zero zero"]),
    ],
)
def test_number_readings_are_those_of_people(number: str, readings: list[str]) -> None:
    assert number_readings(number) == readings


@given(st.integers(0, 10**12 - 1))
def test_number_readings_are_words_of_the_dictionary(number: int) -> None:
    assert all(word in dictionary() for reading in number_readings(str(number)) for word in reading.split())


def test_number_readings_of_more_than_a_trillion_are_digits() -> None:
    assert number_readings("1" + "0" * 12) == ["one" + " zero" * 12]


@pytest.mark.parametrize(
    ("word", "ways"),
    [
        ("The", ["DH AH", "DH IY"]),
        ("cat,", ["K AE T"]),
        ("don\N{RIGHT SINGLE QUOTATION MARK}t", ["D OW N T", "D OW N"]),
        ("7", ["S EH V AH N"]),
        ("naïve", ["N AY IY V"]),
        ("cat-like", ["K AE T L AY K"]),
        ("5%", ["F AY V P ER S EH N T"]),
        ("QZX", ["K Y UW Z IY EH K S", "K Z K S"]),
        ("blorfish", ["B L AO R F IH SH"]),
        ("北京", []),
        ("москва", []),
    ],
)
def test_pronounce_says_what_is_written(word: str, ways: list[str]) -> None:
    assert pronounce(word, dictionary()) == ways


@given(st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1).filter(lambda word: word.strip("'")))
def test_spell_gives_phones_for_any_letters(word: str) -> None:
    assert set(spell(word).split()) <= known_phones()


@cache
def known_phones() -> set[str]:
    return {phone for ways in dictionary().values() for way in ways for phone in way.split()}


def test_align_words_gives_the_known_times_and_the_original_spelling() -> None:
    wave_T, known = speak(SENTENCE)
    written = "Nobody could understand, why these OLD machines broke down every winter!"
    aligned = align_words(wave_T, RATE_HZ, written, find_words, min_confidence=LEAST)
    assert [word.text for word in aligned.words] == written.split()
    errors = errors_s([(word.start_s, word.end_s) for word in aligned.words], known)
    assert np.median(errors) < 0.03
    assert np.quantile(errors, 0.9) < 0.1
    assert (aligned.unsayable, aligned.doubtful) == ([], [])


def test_align_words_is_the_same_after_others_and_on_threads() -> None:
    waves = [speak(text)[0] for text in (SENTENCE, OTHER)]
    alone = [
        align_words(wave_T, RATE_HZ, text, find_words) for wave_T, text in zip(waves, (SENTENCE, OTHER), strict=True)
    ]
    with ThreadPoolExecutor(2) as pool:
        several = list(
            pool.map(lambda index: align_words(waves[index], RATE_HZ, (SENTENCE, OTHER)[index], find_words), [1, 0])
        )
    assert several == [alone[1], alone[0]]


def test_align_words_goes_window_by_window_through_a_longer_wave() -> None:
    text = f"{SENTENCE} {OTHER}"
    wave_T, known = speak(text, lead_s=24.0)
    aligned = align_words(wave_T, RATE_HZ, text, find_words, min_confidence=LEAST)
    errors = errors_s([(word.start_s, word.end_s) for word in aligned.words], known)
    assert np.median(errors) < 0.03
    assert errors.max() < 0.5
    assert all(one.end_s <= other.start_s + 1e-9 for one, other in pairwise(aligned.words))


def test_align_words_rejects_the_text_of_another_recording_with_its_numbers() -> None:
    wave_T, _ = speak(OTHER)
    with pytest.raises(
        MediaError, match=r"11 words in \d.\d s have a confidence of 0.0\d\d; min_confidence is 0.03"
    ) as raised:
        align_words(wave_T, RATE_HZ, SENTENCE, find_words, min_confidence=LEAST)
    assert raised.value.reason == Reason.NOT_ALIGNED


@pytest.mark.parametrize("level", [0.0, 0.003, 0.3])
def test_align_words_rejects_silence_and_noise(level: float) -> None:
    wave_T = (level * np.random.default_rng(1).standard_normal(4 * RATE_HZ)).astype(np.float32)
    with pytest.raises(MediaError) as raised:
        align_words(wave_T, RATE_HZ, SENTENCE, find_words, min_confidence=LEAST)
    assert raised.value.reason == Reason.NOT_ALIGNED


@pytest.mark.parametrize("num_samples", [1, 500, 4000])
def test_align_words_rejects_more_words_than_there_is_time_for(num_samples: int) -> None:
    with pytest.raises(MediaError, match=r"11 words do not fit into 0\.\d s of sound"):
        align_words(np.zeros(num_samples, np.float32), RATE_HZ, SENTENCE, find_words)


def test_align_words_leaves_out_what_it_cannot_say() -> None:
    wave_T, _ = speak("three old machines")
    aligned = align_words(wave_T, RATE_HZ, "three 北京 old machines", find_words, min_confidence=LEAST)
    assert [word.text for word in aligned.words] == ["three", "old", "machines"]
    assert aligned.unsayable == ["北京"]
    with pytest.raises(MediaError, match="none of its 1 words can be said, as '北京'"):
        align_words(wave_T, RATE_HZ, "北京", find_words)


def test_align_words_leaves_out_a_sentence_that_nobody_says() -> None:
    wave_T, known = speak(f"{SENTENCE} {OTHER}")
    inserted = "seventeen purple elephants quietly juggle frozen watermelons"
    aligned = align_words(wave_T, RATE_HZ, f"{SENTENCE} {inserted} {OTHER}", find_words, min_confidence=LEAST)
    assert set(inserted.split()) <= set(aligned.doubtful)
    assert len(aligned.words) >= len(known) - 6


def test_align_words_weights_confidences_by_duration() -> None:
    def aligner(_wave_T: np.ndarray, _rate_hz: int, _words: object) -> list[Place | None]:
        return [Place(0, 3, 0.5), Place(3, 4, 0.03125)]

    assert align_words(np.zeros(40), 10, "a b", aligner).confidence == pytest.approx(0.25)
    with pytest.raises(MediaError, match="a transcript of 0 words over 40 samples of sound"):
        align_words(np.zeros(40), 10, "[music] ...", aligner)
    with pytest.raises(MediaError, match="a transcript of 1 words over 0 samples of sound"):
        align_words(np.zeros(0), 10, "a", aligner)


def test_sphinx_settings_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(
        ConfigError, match=r"align.forced.aligner is 'pocketsphinx', .* run pip install -e '.\[weights\]'"
    ):
        sphinx_settings()

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from features.errors import ConfigError
from pipelines.synthesis.script import DIGIT_WORDS
from pipelines.synthesis.speech import ACCENTS, SPEAKERS, VOICE_RATE_HZ, Voice, check_voice, say_text, say_words

VOICE = Voice("en-us", "f3", 160, 50)  # breathy and rough: it draws random numbers


def test_say_words_forgets_what_was_said_before() -> None:
    first = say_words(["seven", "one"], VOICE)
    say_words(["zero", "two", "three"], replace(VOICE, speaker="m1", pitch=30))
    second = say_words(["seven", "one"], VOICE)
    assert [wave_T.tobytes() for wave_T in first] == [wave_T.tobytes() for wave_T in second]


def test_say_words_trims_and_scales() -> None:
    for wave_T in say_words(DIGIT_WORDS, VOICE):
        assert wave_T.dtype == np.float32
        assert np.abs(wave_T).max() == 1
        assert min(abs(wave_T[0]), abs(wave_T[-1])) > 0.01
        assert 0.15 < len(wave_T) / VOICE_RATE_HZ < 0.8


def test_say_words_obeys_the_rate() -> None:
    (slow,) = say_words(["seven"], replace(VOICE, words_per_min=130))
    (fast,) = say_words(["seven"], replace(VOICE, words_per_min=200))
    assert len(slow) > 1.2 * len(fast)


def test_every_voice_exists_and_differs() -> None:
    def sound_of(accent: str, speaker: str) -> bytes:
        return b"".join(wave_T.tobytes() for wave_T in say_words(DIGIT_WORDS, Voice(accent, speaker, 160, 50)))

    sounds = {sound_of("en-us", speaker) for speaker in SPEAKERS} | {sound_of(accent, "m3") for accent in ACCENTS}
    assert len(sounds) == len(SPEAKERS) + len(ACCENTS) - 1  # en-us with m3 is in both


def test_say_words_names_an_unknown_voice() -> None:
    with pytest.raises(ConfigError, match=r"no voice 'atlantis\+f3'"):
        say_words(["one"], replace(VOICE, accent="atlantis"))


def test_check_voice_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[demo\]'"):
        check_voice()


def test_say_text_knows_when_each_word_is_said() -> None:
    text = "Cats, bats; cups."
    wave_T, words = say_text(text, Voice("en-us", "m3", 120, 50))
    assert [text[word.place :].split()[0] for word in words] == text.split()
    is_loud = np.abs(wave_T) > 0.01
    for word, after in pairwise(words):  # between them are pauses
        assert not is_loud[round(word.end_s * VOICE_RATE_HZ) + 200 : round(after.start_s * VOICE_RATE_HZ)].any()
        assert is_loud[round(word.start_s * VOICE_RATE_HZ) : round(word.end_s * VOICE_RATE_HZ)].mean() > 0.5
    again_T, _ = say_text(text, Voice("en-us", "m3", 120, 50))
    np.testing.assert_array_equal(again_T, wave_T)

"""When the tokens of a text are said."""

import re
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.encoders.base import Encoded, TimedText, Word
from features.encoders.catalogue import make_encoder
from features.encoders.session import encode_samples
from features.encoders.token_times import token_times
from features.view import View


def spans(text: str) -> np.ndarray:
    """Of tokens: runs of letters, and each other character that is no white space."""
    return np.array([found.span() for found in re.finditer(r"[^\W_]+|\S", text)], np.int64).reshape(-1, 2)


def times(text: str, *words: tuple[str, float, float]) -> list[tuple[float, float]]:
    return [tuple(pair) for pair in token_times(text, [Word(*word) for word in words], spans(text)).tolist()]


def test_token_times_are_those_of_the_words_and_punctuation_goes_with_the_word_before() -> None:
    found = times("“Don't, GO!”", ("don't", 0.1, 0.4), ("go", 0.5, 0.9))
    before, after = (0.1, 0.4), (0.5, 0.9)
    assert found == [before, before, before, before, before, after, after, after]  # “ Don ' t , GO ! ”


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("今天天气好", ["今天", "天气", "好"]),
        ("ninety-nine", ["ninety", "nine"]),
        ("STRASSE x", ["straße", "X"]),
        ("a b", ["A,", "-b-"]),
    ],
)
def test_token_times_take_words_however_they_are_written(text: str, words: list[str]) -> None:
    timed = [Word(word, index, index + 1) for index, word in enumerate(words)]
    letters = np.array([(place, place + 1) for place, char in enumerate(text) if char.isalnum()])
    found = token_times(text, timed, letters)
    assert sorted(set(map(tuple, found.tolist()))) == [(index, index + 1) for index in range(len(words))]


def test_token_times_give_a_word_without_a_time_the_gap_that_it_is_in() -> None:
    words = [("one", 1.0, 1.5), ("three", 2.5, 3.0), ("four", 3.0, 3.5), ("six", 4.0, 4.5)]
    gap, one, three = (1.5, 2.5), (1.0, 1.5), (2.5, 3.0)
    assert times("zero one, two! three", *words[:2]) == [one, one, gap, gap, gap, three]
    assert times("three lost four", *words[1:3]) == [three, three, (3.0, 3.5)]  # no gap: with the word before
    assert times("three lost", words[1]) == [three, three]


def test_token_times_are_unknown_where_no_word_has_one() -> None:
    assert np.isnan(token_times("one two", [Word("other", 0, 1), Word("one", 2, 2)], spans("one two"))).all()
    assert np.isnan(token_times("one two", [], spans("one two"))).all()


@given(st.data())
def test_token_times_rise_and_last(data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.sampled_from(["a", "b", "Cc", "d-e", "...", "é", "今天"]), min_size=1, max_size=12))
    kept = [token for token in tokens if data.draw(st.integers(0, 3))]
    steps = st.floats(0, 2, allow_subnormal=False)
    starts = list(accumulate(data.draw(st.lists(steps, min_size=len(kept), max_size=len(kept)))))
    words = [Word(token.strip("-"), start, start + data.draw(steps)) for token, start in zip(kept, starts, strict=True)]
    text = " ".join(tokens)
    found = token_times(text, words, spans(text))
    assert found.shape == (len(spans(text)), 2)
    assert np.isnan(found).all() or not np.isnan(found).any()
    if not np.isnan(found).any():
        assert (found[:, 0] < found[:, 1]).all()
        assert (np.diff(found[:, 0]) >= 0).all()


@pytest.mark.parametrize("encoder", ["minilm", "wordllama"])
def test_encoders_give_tokens_the_times_of_their_words_and_the_same_vectors(encoder: str) -> None:
    made = make_encoder(View(name="text", input="text", encoder=encoder, pooling="sequence"))
    made.load("cpu")
    text = "Unbelievably, it works!"
    words = [Word("Unbelievably", 0.0, 0.7), Word("it", 0.8, 0.9), Word("works", 1.0, 1.6)]
    given = [text, TimedText(text, words), TimedText("and others", [Word("and", 0.0, 0.5)]), TimedText(text, words)]
    plain, timed, _, again = (
        outcome for _, outcome in sorted(encode_samples(made, enumerate(given)), key=lambda pair: pair[0])
    )
    assert isinstance(plain, Encoded)
    assert np.isnan(plain.times_T2).all()
    np.testing.assert_array_equal(timed.vectors_TD, plain.vectors_TD)
    np.testing.assert_array_equal(again.times_T2, timed.times_T2)
    assert len(timed.times_T2) > 5  # several tokens of one word
    kinds = list(dict.fromkeys(map(tuple, timed.times_T2.tolist())))
    assert kinds == [(0.0, 0.7), (0.8, 0.9), (1.0, 1.6)]

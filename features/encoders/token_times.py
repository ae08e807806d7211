"""When the tokens of a text are said: words with times, found again in the text."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby

import numpy as np

from features.encoders.base import Word

_PIECE = re.compile(r"[^\W_]+")  # what words and text are made of where they are not letter by letter the same
_NO_WORD = -1


def token_times(text: str, words: Sequence[Word], spans_T2: np.ndarray) -> np.ndarray:
    """float64 [token, (start, end)], seconds; starts never fall.

    words: in the order of the text; spans_T2: int [token, (first character, after the last)]. A token has the interval
    of the word that it is of. Tokens between two words that are of none have the interval of the word before them or,
    at the beginning, after them; but where one of them is more than punctuation, a word without a time, all have the
    gap between the two words, if there is one. All is NaN if no word of the text has a time.
    """
    timed = [word for word in words if word.start_s < word.end_s]
    word_C = _words_of_characters(text, [word.text for word in timed])
    word_T = [_first_word(word_C[start:stop]) for start, stop in spans_T2.tolist()]
    known = [word for word in word_T if word != _NO_WORD]
    if not known:
        return np.full((len(word_T), 2), np.nan)
    times: list[tuple[float, float]] = []
    num_known = 0
    for word, run in groupby(range(len(word_T)), key=word_T.__getitem__):
        places = list(run)
        if word != _NO_WORD:
            interval = (timed[word].start_s, timed[word].end_s)
            num_known += len(places)
        else:
            before, after = known[max(num_known - 1, 0)], known[min(num_known, len(known) - 1)]
            interval = (timed[before].start_s, timed[before].end_s)
            gap = (timed[before].end_s, timed[after].start_s)
            start, stop = int(spans_T2[places[0], 0]), int(spans_T2[places[-1], 1])
            if _PIECE.search(text[start:stop]) and gap[0] < gap[1]:
                interval = gap
        times += [interval] * len(places)
    return np.array(times, np.float64)


def _first_word(word_C: np.ndarray) -> int:
    found = word_C[word_C != _NO_WORD]
    return int(found[0]) if len(found) else _NO_WORD


def _words_of_characters(text: str, words: Sequence[str]) -> np.ndarray:
    """int [character of the text], which word it is of, rising; case and punctuation do not matter."""
    word_C = np.full(len(text), _NO_WORD)
    letters = [(letter, place) for place, char in enumerate(text) for letter in _fold(char)]
    spoken = [(letter, index) for index, word in enumerate(words) for char in word for letter in _fold(char)]
    if [letter for letter, _ in letters] == [letter for letter, _ in spoken]:
        for (_, place), (_, index) in zip(letters, spoken, strict=True):
            word_C[place] = index
        return word_C
    pieces = [(piece.casefold(), start, stop) for piece, start, stop in _pieces(text)]
    said = [(piece.casefold(), index) for index, word in enumerate(words) for piece, _, _ in _pieces(word)]
    same = SequenceMatcher(None, [piece for piece, _, _ in pieces], [piece for piece, _ in said], autojunk=False)
    for first, first_said, length in same.get_matching_blocks():
        for offset in range(length):
            _, start, stop = pieces[first + offset]
            word_C[start:stop] = said[first_said + offset][1]
    return word_C


def _fold(char: str) -> str:
    return char.casefold() if char.isalnum() else ""


def _pieces(text: str) -> Iterator[tuple[str, int, int]]:
    return ((found.group(), *found.span()) for found in _PIECE.finditer(text))

"""Texts to token rows: the ids that a model's own library would give it, padded to lengths that the text decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.encoders.base import Media, Prepared, TimedText
from features.encoders.network import NetworkEncoder
from features.encoders.token_times import token_times
from features.errors import EncoderError
from features.reasons import MediaError, Reason

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_NUM_STEPS = 32  # of each size, from none; the next size is twice as large
_MOST_PROBED = 1 << 14  # words: enough to reach the limit of a model that reads long texts
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "tekken.json")
_FIELDS = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}

NO_SPANS_T2 = np.zeros((0, 2), np.int64)

Tokenize = Callable[[str], tuple[np.ndarray, np.ndarray]]
"""A text to int64 [row, token]: a row for each input of the model, and last, where each token is to have a vector of
its own, one that is 1 for the tokens of the text itself and 0 for those that the tokenizer or a prompt adds. Then for
each of these tokens int64 [token, (first character, after the last)] of the text."""


class TokenEncoder(NetworkEncoder):
    """One vector a token: what the network gives for padding, special tokens and a prompt is left out."""

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        vectors_B = super().encode(units_B)
        return [vectors_TD[unit_KT[-1] == 1] for unit_KT, vectors_TD in zip(units_B, vectors_B, strict=True)]


def take_text(media: Media) -> str:
    """The media as a text. Raises MediaError if it is blank."""
    text = media.text if isinstance(media, TimedText) else media
    if not isinstance(text, str):
        raise TypeError(f"a text encoder takes str, not {type(media).__name__}")
    if not text.strip():
        raise MediaError(Reason.EMPTY, "a text without a character")
    return text


def times_of_tokens(media: Media, spans_T2: np.ndarray) -> np.ndarray:
    """float64 [token, (start, end)] of the tokens at these characters of a text; NaN if it has no words with times."""
    if isinstance(media, TimedText):
        return token_times(media.text, media.words, spans_T2)
    return np.full((len(spans_T2), 2), np.nan)


def prepare_text(
    tokenize: Tokenize, padding_K: Sequence[int], longest: int, has_token_vectors: bool, media: Media
) -> Prepared:
    """A text as one unit: int64 [row, token], padded to a length that follows from the text alone.

    padding_K: what fills each row; longest: the most tokens that the model reads; has_token_vectors: whether each
    token of the text itself is to have a vector, with the interval of its word.
    """
    rows_KT, spans_T2 = tokenize(take_text(media))
    num_tokens = rows_KT.shape[1]
    unit_KT = np.empty((len(rows_KT), padded_length(num_tokens, longest)), np.int64)
    unit_KT[:, :num_tokens] = rows_KT
    unit_KT[:, num_tokens:] = np.array(padding_K)[:, None]
    if not has_token_vectors:
        return Prepared([unit_KT], np.full((1, 2), np.nan))
    if not len(spans_T2):
        raise MediaError(Reason.EMPTY, "a text without a token: the model's tokenizer drops all of it")
    return Prepared([unit_KT], times_of_tokens(media, spans_T2))


def padded_length(num_tokens: int, longest: int) -> int:
    """The smallest of 1, 2, ... 32, 34, ... 64, 68, ... 128, 136, ... and longest that holds the tokens.

    A model's time is nearly proportional to the length, so that fewer lengths are paid for in padding; with more of
    them more batches stay half empty.
    """
    step = 1
    while num_tokens > step * _NUM_STEPS:
        step *= 2
    return max(num_tokens, min(-(-num_tokens // step) * step, longest))


def check_vocabulary(tokenizer: Any, folder: Path) -> None:
    """Raise EncoderError if a tokenizer that has a vocabulary found none in its folder: transformers goes on with a
    handful of special tokens then, and every text is the same to it."""
    has_files = bool(getattr(tokenizer, "vocab_files_names", None))  # those that read bytes or characters have none
    if has_files and not any(file for pattern in _VOCABULARIES for file in folder.rglob(pattern)):
        raise EncoderError(
            f"{folder} holds no vocabulary ({', '.join(_VOCABULARIES)}): save the model's tokenizer there, too"
        )


def make_tokenize(
    model: SentenceTransformer, prompt: str | None, names: Sequence[str], has_token_vectors: bool
) -> Tokenize | None:
    """What gives a text's rows for the model's inputs of these names, from any number of threads at once.

    None if each token is to have a vector and the model's tokenizer does not tell which tokens are the text's own.
    """
    fast = _fast_tokenize(model, prompt or "", names)
    if fast is not None:
        return partial(fast, has_token_vectors=has_token_vectors)
    return None if has_token_vectors else _slow_tokenize(model, prompt, names)


def _slow_tokenize(model: SentenceTransformer, prompt: str | None, names: Sequence[str]) -> Tokenize:
    """The library's own way to the rows."""
    lock = threading.Lock()  # a tokenizer sets its padding on itself before each use

    def tokenize(text: str) -> tuple[np.ndarray, np.ndarray]:
        with lock:
            inputs = model.preprocess([text], prompt=prompt)
        return np.stack([inputs[name][0].numpy() for name in names]).astype(np.int64), NO_SPANS_T2

    return tokenize


def _fast_tokenize(
    model: SentenceTransformer, prompt: str, names: Sequence[str]
) -> Callable[..., tuple[np.ndarray, np.ndarray]] | None:
    """The tokenizer beneath the library, at a quarter of the time and without a lock; None where there is none or
    where the library does more to a text than to tokenize it, as by a template of a chat."""
    beneath = getattr(model.tokenizer, "backend_tokenizer", None)
    if beneath is None or not set(names) <= set(_FIELDS):
        return None
    slow = _slow_tokenize(model, prompt or None, names)
    slow("probe")  # has the library set how it truncates
    tokenizer = _copy(beneath)

    def tokenize(text: str, *, has_token_vectors: bool = False) -> tuple[np.ndarray, np.ndarray]:
        encoding = tokenizer.encode(prompt + text)
        rows = [getattr(encoding, _FIELDS[name]) for name in names]
        if not has_token_vectors:
            return np.array(rows, np.int64), NO_SPANS_T2
        is_own_T = np.array(_is_own(encoding, len(prompt)), bool)
        spans_T2 = np.maximum(np.array(encoding.offsets, np.int64)[is_own_T] - len(prompt), 0)
        return np.array([*rows, is_own_T], np.int64), spans_T2

    num_words = min(model.max_seq_length or _MOST_PROBED, _MOST_PROBED)
    probes = ("probe", " Two  WORDS,\n naïve 北京 🙂\t", "word " * num_words)
    return tokenize if all(np.array_equal(tokenize(text)[0], slow(text)[0]) for text in probes) else None


def _copy(tokenizer: Any) -> Any:
    """A tokenizer that nobody else sets to pad."""
    from tokenizers import Tokenizer

    copied = Tokenizer.from_str(tokenizer.to_str())
    copied.encode_special_tokens = tokenizer.encode_special_tokens
    copied.no_padding()
    return copied


def _is_own(encoding: Any, prompt_chars: int) -> list[bool]:
    """For each token, whether it stands for characters after the prompt."""
    ends = (end for _, end in encoding.offsets)
    return [
        not is_special and (prompt_chars == 0 or end > prompt_chars)
        for is_special, end in zip(encoding.special_tokens_mask, ends, strict=True)
    ]

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.encoders.base import Encoded, Media, Prepared
from features.encoders.batching import encode_samples
from features.errors import EncoderError
from features.reasons import MediaError, Reason


@dataclass
class SumEncoder:
    """A text's parts are its units, a vector is a unit's sum; the text says what goes wrong with it."""

    batch_size: int = 3
    inputs: frozenset[str] = frozenset({"text"})
    dim: int = 1
    batches: list[np.ndarray] = field(default_factory=list)
    num_prepared: int = 0

    def definition(self) -> dict[str, Any]:
        return {}

    def load(self, device: str) -> None:
        """There is no model."""

    def prepare(self, media: Media) -> Prepared:
        self.num_prepared += 1
        assert isinstance(media, str)
        parts = media.split()
        if "unreadable" in parts[:1]:
            raise MediaError(Reason.UNDECODABLE, media)
        return Prepared((self._unit(part) for part in parts), np.zeros((len(parts), 2)))

    def _unit(self, part: str) -> np.ndarray:
        if part == "broken":
            raise MediaError(Reason.TRUNCATED, part)
        if part == "nan":
            return np.array([np.nan])
        return np.array([float(character) for character in part])

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        self.batches.append(units_B)
        return [np.array([[unit.sum()]], np.float32) for unit in units_B]


PARTS = st.sampled_from(["1", "2", "12", "345", "999", "nan", "broken"])
TEXTS = st.lists(st.lists(PARTS, max_size=5).map(" ".join), max_size=80)


def describe(outcome: Encoded | MediaError) -> tuple[Any, ...]:
    if isinstance(outcome, MediaError):
        return outcome.reason, str(outcome)
    return outcome.vectors_TD.shape, outcome.vectors_TD.tobytes()


def encode_alone(text: str) -> tuple[Any, ...]:
    ((_, outcome),) = encode_samples(SumEncoder(), [(0, text)])
    return describe(outcome)


@given(texts=TEXTS, batch_size=st.integers(1, 5))
def test_encode_samples_gives_each_sample_what_it_gets_alone(texts, batch_size):
    outcomes = list(encode_samples(SumEncoder(batch_size), list(enumerate(texts))))
    assert [key for key, _ in outcomes] == list(range(len(texts)))
    assert [describe(outcome) for _, outcome in outcomes] == [encode_alone(text) for text in texts]


@given(texts=TEXTS, batch_size=st.integers(1, 5))
def test_encode_samples_always_calls_with_full_batches_of_one_shape(texts, batch_size):
    encoder = SumEncoder(batch_size)
    list(encode_samples(encoder, list(enumerate(texts))))
    assert all(len(batch) == batch_size for batch in encoder.batches)


def test_encode_samples_pads_the_last_batch_with_zeros():
    encoder = SumEncoder(batch_size=3)
    list(encode_samples(encoder, [("a", "12")]))
    assert np.array_equal(encoder.batches[0], [[1, 2], [0, 0], [0, 0]])


def test_encode_samples_fills_batches_across_samples():
    encoder = SumEncoder(batch_size=3)
    list(encode_samples(encoder, enumerate(["1 2", "3 4", "5 6"])))
    assert [batch[:, 0].tolist() for batch in encoder.batches] == [[1, 2, 3], [4, 5, 6]]


def test_encode_samples_encodes_no_unit_of_a_sample_that_broke():
    encoder = SumEncoder(batch_size=3)
    outcomes = dict(encode_samples(encoder, enumerate(["7 broken", "1"])))
    assert outcomes[0].reason == Reason.TRUNCATED
    assert [batch[:, 0].tolist() for batch in encoder.batches] == [[1, 0, 0]]


def test_encode_samples_rejects_vectors_that_are_not_finite():
    outcomes = dict(encode_samples(SumEncoder(), enumerate(["1 nan", "1 1"])))
    assert outcomes[0].reason == Reason.NON_FINITE
    assert outcomes[1].vectors_TD.tolist() == [[1], [1]]


def test_encode_samples_rejects_a_sample_without_units():
    ((_, outcome),) = encode_samples(SumEncoder(), [(0, "")])
    assert outcome.reason == Reason.EMPTY


def test_encode_samples_looks_ahead_over_a_bounded_number_of_samples():
    encoder = SumEncoder(batch_size=2)
    rare_first = encode_samples(encoder, enumerate(["345", *["1"] * 10_000]))
    assert next(rare_first)[0] == 0
    assert encoder.num_prepared < 100


def test_encode_samples_takes_the_units_of_a_long_sample_one_batch_at_a_time():
    waiting = largest = 0

    class CountingEncoder(SumEncoder):
        def _unit(self, part: str) -> np.ndarray:
            nonlocal waiting, largest
            waiting += 1
            largest = max(largest, waiting)
            return super()._unit(part)

        def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
            nonlocal waiting
            waiting -= len(units_B)
            return super().encode(units_B)

    ((_, outcome),) = encode_samples(CountingEncoder(batch_size=4), [(0, "1 " * 1000)])
    assert len(outcome.vectors_TD) == 1000
    assert largest == 4


def test_encode_samples_refuses_an_encoder_that_miscounts_its_vectors():
    class Miscounting(SumEncoder):
        def prepare(self, media: Media) -> Prepared:
            return Prepared(super().prepare(media).units, np.full((99, 2), math.nan))

    with pytest.raises(EncoderError, match="1 vectors for 99 intervals"):
        list(encode_samples(Miscounting(), [(0, "1")]))

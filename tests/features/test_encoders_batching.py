import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.encoders.base import Encoded, Media, Prepared
from features.encoders.batching import BatchSize, encode_each, encode_units
from features.encoders.session import encode_samples
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

    def size_of_batch(self, shape: tuple[int, ...]) -> int:
        return self.batch_size

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

    def encode_each(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [vectors for unit in units for vectors in self.encode(unit[None])]


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


@dataclass
class FailingEncoder(SumEncoder):
    """Fails on batches that hold a 6 or a unit of zeros, gives NaN for a 7, and for all units of a batch with an 8."""

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        if 6 in units_B:
            raise RuntimeError("unlucky\n  number")
        outputs = super().encode(units_B)
        return [
            np.full((1, 1), np.nan) if 7 in unit or 8 in units_B else output
            for unit, output in zip(units_B, outputs, strict=True)
        ]


@given(texts=st.lists(st.sampled_from(["1", "2", "3 6", "7", "8", "4 4", "12"]), max_size=30), size=st.integers(1, 6))
def test_encode_samples_blames_only_the_units_that_fail_alone(texts, size):
    outcomes = [outcome for _, outcome in encode_samples(FailingEncoder(size), enumerate(texts))]
    for text, outcome in zip(texts, outcomes, strict=True):
        if "6" in text:
            assert outcome.reason == Reason.NOT_ENCODABLE
            assert str(outcome) == "the encoder failed on it: RuntimeError: unlucky number"
        elif text in ("7", "8"):
            assert outcome.reason == Reason.NON_FINITE
        else:
            assert describe(outcome) == encode_alone(text)


@given(texts=st.lists(st.sampled_from(["1", "2", "3 6", "7", "8", "44", "12"]), max_size=30))
def test_encode_each_gives_each_unit_what_it_gets_alone(texts):
    encoder = FailingEncoder(batch_size=1)
    units = [unit for text in texts for unit in encoder.prepare(text).units]
    together = encode_each(encoder, units, BatchSize(encoder))
    alone = [encode_units(encoder, [unit], BatchSize(encoder))[0] for unit in units]
    assert [repr(outcome) for outcome in together] == [repr(outcome) for outcome in alone]


@dataclass
class HungryEncoder(SumEncoder):
    """Takes the memory for two units, and for none with a 9."""

    error: Exception = field(default_factory=MemoryError)

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        if len(units_B) > 2 or 9 in units_B:
            raise self.error
        return super().encode(units_B)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 bytes")],
)
def test_a_batch_that_memory_does_not_hold_makes_batches_smaller(error):
    encoder, size = HungryEncoder(batch_size=8, error=error), BatchSize(HungryEncoder(batch_size=8))
    units = [np.array([float(number % 8)]) for number in range(8)]
    assert [output[0, 0] for output in encode_units(encoder, units, size)] == [unit[0] for unit in units]
    assert {len(batch) for batch in encoder.batches} == {2}
    assert (size.num_halvings, size.of((1,)), size.of((5,))) == (2, 2, 2)

    (outcome,) = encode_units(encoder, [np.array([9.0])], size)
    assert outcome.reason == Reason.TOO_LARGE
    assert (size.num_halvings, size.of((1,))) == (3, 1)


def test_encode_samples_takes_a_mistake_of_the_program_for_none_of_a_sample():
    class Wrong(SumEncoder):
        def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
            raise TypeError("wrong")

    with pytest.raises(TypeError, match="wrong"):
        list(encode_samples(Wrong(), enumerate(["1", "2"])))


def test_encode_samples_refuses_an_encoder_that_miscounts_its_vectors():
    class Miscounting(SumEncoder):
        def prepare(self, media: Media) -> Prepared:
            return Prepared(super().prepare(media).units, np.full((99, 2), math.nan))

    with pytest.raises(EncoderError, match="1 vectors for 99 intervals"):
        list(encode_samples(Miscounting(), [(0, "1")]))

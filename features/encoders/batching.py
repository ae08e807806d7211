"""Batches of fixed shape: a row's bytes depend on its sample, never on the company it is encoded in.

So a batch may take units of any samples, of several shards too, and one that fails may be run again in parts.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

import numpy as np

from features.encoders.base import Encoded, Encoder
from features.encoders.gpu import gpu_failure, has_gpu_failed
from features.encoders.memory import is_out_of_memory
from features.errors import EncoderError
from features.reasons import MediaError, Reason

_SHOWN_CHARS = 200  # of what a library says went wrong
# What libraries raise for an input that they cannot take; torch raises RuntimeError for nearly everything.
_FAILURES = (RuntimeError, ValueError, IndexError, ArithmeticError, MemoryError)

Outcome = np.ndarray | MediaError
"""What became of a unit: float32 [vector, dim], or why there is nothing."""


@dataclass(eq=False)
class Sample:
    """A sample on its way: one place in outcomes for each unit that was queued."""

    key: Any
    times_T2: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    outcomes: list[Outcome | None] = field(default_factory=list)
    num_waiting: int = 0
    is_complete: bool = False  # no further units will come
    error: MediaError | None = None  # of reading and preparing it
    failure: BaseException | None = None  # of the program or the disk: it ends the work
    waiter: Condition | None = None  # of whoever can do nothing before the sample is done

    @property
    def is_done(self) -> bool:
        if self.failure is not None:
            return True
        # What went wrong with it must not depend on what was noticed first.
        return self.is_complete and (self.error is not None or self.num_waiting == 0)

    def take(self, index: int, outcome: Outcome) -> None:
        """Note what became of a unit."""
        self.outcomes[index] = outcome
        self.num_waiting -= 1

    def outcome(self) -> Encoded | MediaError:
        """What became of the sample, once it is done. Raises its failure, if it has one."""
        if self.failure is not None:
            raise self.failure
        errors = (outcome for outcome in self.outcomes if isinstance(outcome, MediaError))
        error = self.error or next(errors, None)
        if error is not None:
            return error
        vectors = [vectors for vectors in self.outcomes if isinstance(vectors, np.ndarray)]
        if not vectors:
            return MediaError(Reason.EMPTY, "there is nothing in it to encode")
        whole_TD = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        vectors_TD = whole_TD.astype(np.float32, copy=False)
        if len(vectors_TD) != len(self.times_T2):
            raise EncoderError(
                f"an encoder gave {len(vectors_TD)} vectors for {len(self.times_T2)} intervals: mend its prepare()"
            )
        return Encoded(vectors_TD, self.times_T2)


@dataclass(frozen=True)
class Place:
    """A unit that waits to be encoded, and where its outcome belongs."""

    sample: Sample
    index: int
    unit: np.ndarray


class BatchSize:
    """How many units go into a batch: as many as the encoder says, and fewer once that is more than memory holds.

    num_halvings: how often all sizes have been halved.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._declared = encoder.size_of_batch
        self.num_halvings = 0

    def of(self, shape: tuple[int, ...]) -> int:
        """The size for units of this shape."""
        return max(1, self._declared(shape) >> self.num_halvings)

    def lower(self, shape: tuple[int, ...], size: int) -> None:
        """Take note that memory does not hold so many units of the shape, at least two."""
        while self.of(shape) >= size:
            self.num_halvings += 1


class Lanes:
    """Units that wait for a batch, one lane for each shape."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[tuple[int, ...], str], list[Place]] = {}

    def add(self, sample: Sample, unit: np.ndarray, size: BatchSize) -> list[Place]:
        """Queue a unit; gives the batch that it made full, or nothing."""
        shape = (unit.shape, unit.dtype.str)
        lane = self._lanes.setdefault(shape, [])
        lane.append(Place(sample, len(sample.outcomes), unit))
        sample.outcomes.append(None)
        sample.num_waiting += 1
        if len(lane) < size.of(unit.shape):
            return []
        return self._lanes.pop(shape)

    def drop(self, sample: Sample) -> None:
        """Forget the units of a sample that turned out to be broken."""
        for lane in self._lanes.values():
            lane[:] = [place for place in lane if place.sample is not sample]

    def take(self, sample: Sample, num_lanes: int) -> list[list[Place]]:
        """The lanes in which units of the sample wait, and of others the fullest, up to so many together; emptied."""
        holds = {shape: any(place.sample is sample for place in lane) for shape, lane in self._lanes.items() if lane}
        shapes = sorted(holds, key=lambda shape: (holds[shape], len(self._lanes[shape])), reverse=True)
        return [self._lanes.pop(shape) for shape in shapes[: max(sum(holds.values()), num_lanes)]]


def encode_units(encoder: Encoder, units: Sequence[np.ndarray], size: BatchSize) -> list[Outcome]:
    """What becomes of each of the units, which have one shape; a batch, or fewer.

    A batch that fails is split in halves down to the units that do so alone, and these get an error. Halves are filled
    up with zeros to the same shape, so the others get the same bytes as ever. Where memory does not suffice batches
    are made smaller from then on, for all who share the size. Raises EncoderError if the GPU failed.
    """
    shape = units[0].shape
    asked = size.of(shape)
    if len(units) > asked:
        parts = [units[start : start + asked] for start in range(0, len(units), asked)]
        return [outcome for part in parts for outcome in encode_units(encoder, part, size)]
    failure = None
    try:
        outputs = encoder.encode(_padded(units, asked))[: len(units)]
    except _FAILURES as error:
        failure = _blamed(error)
        if not is_too_large(failure) and has_gpu_failed():
            raise gpu_failure(error) from error
    # From here on the error is gone, and with its frames the memory that the batch had taken.
    if failure is not None:
        if is_too_large(failure) and asked > 1:
            _free_memory()
            size.lower(shape, asked)
            return encode_units(encoder, units, size)
        return [failure] if len(units) == 1 else _in_halves(encoder, units, size)
    guilty = [place for place, output in enumerate(outputs) if not np.isfinite(output).all()]
    outcomes: list[Outcome] = list(outputs)
    if len(units) == 1:
        return [MediaError(Reason.NON_FINITE, "the encoder gave NaN or infinity")] if guilty else outcomes
    if guilty:  # perhaps on account of another unit: those that do so alone are to blame
        again = _in_halves(encoder, [units[place] for place in guilty], size)
        for place, outcome in zip(guilty, again, strict=True):
            outcomes[place] = outcome
    return outcomes


def encode_each(encoder: Encoder, units: Sequence[np.ndarray], size: BatchSize) -> list[Outcome]:
    """What becomes of each of the units, which have any shapes, and of which a batch holds one.

    All are encoded in one go. Where that fails, or one of them has a vector that is not finite, it is one by one.
    """
    if len(units) > 1:
        from features.encoders.vector_kernels import is_finite  # where it is needed: numba takes a while

        with suppress(*_FAILURES):
            outputs = encoder.encode_each(units)
            if all(is_finite(np.ascontiguousarray(output, np.float32)) for output in outputs):
                return list(outputs)
    return [outcome for unit in units for outcome in encode_units(encoder, [unit], size)]


def is_too_large(outcome: Outcome) -> bool:
    """Whether memory did not suffice for a unit or, while that is asked of one, for a batch."""
    return isinstance(outcome, MediaError) and outcome.reason == Reason.TOO_LARGE


def _in_halves(encoder: Encoder, units: Sequence[np.ndarray], size: BatchSize) -> list[Outcome]:
    middle = (len(units) + 1) // 2
    halves = (units[:middle], units[middle:])
    return [outcome for half in halves if half for outcome in encode_units(encoder, half, size)]


def _padded(units: Sequence[np.ndarray], size: int) -> np.ndarray:
    if size == 1:
        return units[0][None]
    units_B = np.zeros((size, *units[0].shape), units[0].dtype)
    for row, unit in enumerate(units):
        units_B[row] = unit
    return units_B


def _free_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _blamed(error: Exception) -> MediaError:
    """Why a unit has no vector, if what failed was it alone."""
    if is_out_of_memory(error):
        return MediaError(Reason.TOO_LARGE, "encoding it takes more memory than there is")
    said = " ".join(str(error).split())[:_SHOWN_CHARS]
    return MediaError(Reason.NOT_ENCODABLE, f"the encoder failed on it: {type(error).__name__}: {said}")

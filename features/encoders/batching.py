"""Batches of fixed shape: a row's bytes depend on its sample, never on the company it is encoded in."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from features.encoders.base import Encoded, Encoder, Media
from features.errors import EncoderError
from features.reasons import MediaError, Reason

Key = TypeVar("Key")

_OPEN_BATCHES = 16  # samples that may wait for their batches to fill, in batches: bounds memory over a long shard


@dataclass(eq=False)
class _Sample(Generic[Key]):
    """A sample on its way: one place in outputs for each unit that was queued."""

    key: Key
    times_T2: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    outputs: list[np.ndarray | None] = field(default_factory=list)
    num_waiting: int = 0
    is_complete: bool = False  # no further units will come
    error: MediaError | None = None

    @property
    def is_done(self) -> bool:
        return self.error is not None or (self.is_complete and self.num_waiting == 0)


_Place = tuple[_Sample[Key], int, np.ndarray]


class _Lanes(Generic[Key]):
    """Units that wait for a batch, one lane for each shape."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._lanes: dict[tuple[tuple[int, ...], str], list[_Place[Key]]] = {}

    def add(self, sample: _Sample[Key], media: Media) -> None:
        """Queue the units of a sample, and encode every batch that becomes full."""
        try:
            prepared = self._encoder.prepare(media)
            sample.times_T2 = prepared.times_T2
            for unit in prepared.units:
                self._queue(sample, unit)
        except MediaError as error:
            sample.error = error
            for lane in self._lanes.values():
                lane[:] = [place for place in lane if place[0] is not sample]
        sample.is_complete = True

    def _queue(self, sample: _Sample[Key], unit: np.ndarray) -> None:
        lane = self._lanes.setdefault((unit.shape, unit.dtype.str), [])
        lane.append((sample, len(sample.outputs), unit))
        sample.outputs.append(None)
        sample.num_waiting += 1
        if len(lane) == self._encoder.batch_size:
            self._encode(lane)

    def finish(self, sample: _Sample[Key]) -> None:
        """Encode what the sample still waits for, in batches filled up with zeros."""
        for lane in self._lanes.values():
            if any(waiting is sample for waiting, _, _ in lane):
                self._encode(lane)

    def _encode(self, lane: list[_Place[Key]]) -> None:
        places = list(lane)
        lane.clear()
        first = places[0][2]
        units_B = np.zeros((self._encoder.batch_size, *first.shape), first.dtype)
        for row, (_, _, unit) in enumerate(places):
            units_B[row] = unit
        outputs = self._encoder.encode(units_B)
        for (sample, index, _), output in zip(places, outputs, strict=False):
            sample.outputs[index] = output
            sample.num_waiting -= 1


def encode_samples(
    encoder: Encoder, samples: Iterable[tuple[Key, Media]]
) -> Iterator[tuple[Key, Encoded | MediaError]]:
    """Encode samples in batches of exactly encoder.batch_size units of one shape; they come out as they came in.

    A sample that cannot be decoded, or whose vectors are not finite, comes out as its MediaError and touches no other.
    Looks ahead over a bounded number of samples, so memory does not grow with their count.
    """
    lanes = _Lanes[Key](encoder)
    waiting: deque[_Sample[Key]] = deque()
    for key, media in samples:
        sample = _Sample(key)
        waiting.append(sample)
        lanes.add(sample, media)
        if len(waiting) > _OPEN_BATCHES * encoder.batch_size:
            lanes.finish(waiting[0])
        while waiting and waiting[0].is_done:
            yield _outcome(waiting.popleft())
    while waiting:
        lanes.finish(waiting[0])
        yield _outcome(waiting.popleft())


def _outcome(sample: _Sample[Key]) -> tuple[Key, Encoded | MediaError]:
    if sample.error is not None:
        return sample.key, sample.error
    outputs = [output for output in sample.outputs if output is not None]
    if not outputs:
        return sample.key, MediaError(Reason.EMPTY, "there is nothing in it to encode")
    vectors_TD = np.concatenate(outputs).astype(np.float32, copy=False)
    if len(vectors_TD) != len(sample.times_T2):
        raise EncoderError(
            f"an encoder gave {len(vectors_TD)} vectors for {len(sample.times_T2)} intervals: mend its prepare()"
        )
    if not np.isfinite(vectors_TD).all():
        return sample.key, MediaError(Reason.NON_FINITE, "the encoder gave NaN or infinity")
    return sample.key, Encoded(vectors_TD, sample.times_T2)

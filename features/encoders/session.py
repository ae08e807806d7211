"""A model at work: threads that decode ahead of it, a bounded queue, and threads that run it."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

from features.encoders.base import Encoded, Encoder, Media
from features.encoders.batching import BatchSize, Lanes, Place, Sample, encode_each, encode_units
from features.encoders.memory import is_out_of_memory, memory_failures
from features.encoders.models import Encode, Models
from features.encoders.timing import Clock, Times
from features.reasons import MediaError, Reason

_OPEN_BATCHES = 64  # samples of one feed that may be under way, in batches: bounds memory over a long shard
# Samples that a thread prepares in one go: to hand each text over alone takes longer than to prepare it.
_AT_ONCE = {"text": 16, "image": 1, "audio": 16, "video": 1}
_QUEUED_BATCHES = 2  # that wait for each thread that runs the model
_ALONE_BYTES = 8 << 20  # of units that one thread holds to encode them in one go: long clips go one by one

Read = Callable[[], Media]
"""Reads a sample's media; called on a decoding thread, or on that of the feed."""


class Session:
    """Encodes the samples of any number of feeds at once, one a thread that calls encode().

    Samples are read and prepared on decoding threads, or on those of their feeds. Their units gather in lanes of one
    shape, across feeds, and a full lane goes to a thread that runs the model; that decoding threads wait when enough
    batches do, bounds memory. What is left in a lane is encoded when no feed can go on without it.
    """

    def __init__(self, encoders: Sequence[Encoder], *, num_decoders: int = 1, is_cpu: bool = False) -> None:
        """encoders: loaded ones, one for each thread that is to run a model; on a CPU threads may share one. There
        units that are a batch each are encoded on the thread that decoded them, several in one go: to hand each over,
        or to call the model for each, would keep threads waiting for the interpreter's lock. Where there are as many
        feeds as decoders, of which there are several, that is the thread of the feed: else it would be one more that
        wants the lock. Of more feeds than that, too many would be at work."""
        self._encoder = encoders[0]
        self.batch_size = BatchSize(self._encoder)
        self.times = Times()
        self._models = Models(encoders)
        self._num_decoders = num_decoders
        self._decoders = ThreadPoolExecutor(num_decoders, "decode", initializer=_use_one_thread)
        self._runners = ThreadPoolExecutor(len(encoders), "model", initializer=_use_one_thread)
        self._room = threading.BoundedSemaphore((1 + _QUEUED_BATCHES) * len(encoders))
        self._is_cpu = is_cpu
        self._at_once = min(_AT_ONCE[modality] for modality in self._encoder.inputs)
        self._lanes = Lanes()
        self._lock = threading.Lock()  # guards all below, the lanes and the samples
        self._num_feeds = 0
        self._num_attending = 0
        self._waiting: set[threading.Condition] = set()  # feeds that can do nothing before their next sample is done
        self._num_busy = 0  # samples that are prepared and batches that are encoded

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads; what has not begun is left."""
        self._decoders.shutdown(cancel_futures=True)
        self._runners.shutdown(cancel_futures=True)

    def encode(self, samples: Iterable[tuple[Any, Read]]) -> Iterator[tuple[Any, Encoded | MediaError]]:
        """Encode samples, given as keys and what reads their media; they come out as they came in.

        A sample that cannot be decoded or encoded, or whose vectors are not finite, comes out as its MediaError and
        touches no other. Looks ahead over a bounded number of samples, so memory does not grow with their count.
        Raises what reading a sample raises beside a MediaError.
        """
        under_way: deque[Sample] = deque()
        given = iter(samples)
        with self._feeding():
            while begun := self._begin(list(islice(given, self._at_once))):
                under_way += begun
                while under_way and (len(under_way) > self._most_under_way or under_way[0].is_done):
                    self._wait_for(under_way[0])
                    yield under_way[0].key, under_way.popleft().outcome()
            while under_way:
                self._wait_for(under_way[0])
                yield under_way[0].key, under_way.popleft().outcome()

    @property
    def _most_under_way(self) -> int:
        return _OPEN_BATCHES * self._encoder.batch_size

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Be one of those who feed, also while there is other work to do: decoders that took its processor meanwhile
        would be in its way when it goes on."""
        with self._lock:
            self._num_attending += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_attending -= 1

    @contextmanager
    def _feeding(self) -> Iterator[None]:
        with self._lock:
            self._num_feeds += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_feeds -= 1
                self._wake([])

    def _begin(self, given: list[tuple[Any, Read]]) -> list[Sample]:
        samples, reads = [Sample(key) for key, _ in given], [read for _, read in given]
        if not samples:
            return []
        with self._lock:
            self._num_busy += 1
            is_alone = self._is_cpu and self._encoder.batch_size == 1
            is_own_work = is_alone and max(self._num_feeds, self._num_attending) == self._num_decoders > 1
        if is_own_work:
            _use_one_thread()
            try:
                self._prepare_all(samples, reads)
            finally:
                self._note_end(samples, None)
        else:
            future = self._decoders.submit(self._prepare_all, samples, reads)
            future.add_done_callback(partial(self._end, samples))
        return samples

    def _prepare_all(self, samples: list[Sample], reads: list[Read]) -> None:
        """Read samples, queue their units, and encode those that need not wait for others."""
        clock, alone = Clock(), list[Place]()
        with clock.spending("read"):
            for sample, read in zip(samples, reads, strict=True):
                clock.turn_to("read")
                error = self._prepare(sample, read, clock, alone)
                if error is not None:
                    with self._lock:
                        sample.error = error
                        self._lanes.drop(sample)
        with self._lock:
            for sample in samples:
                sample.is_complete = True
            self.times.add(clock.spent_s)
        self._run_alone(alone)

    def _prepare(self, sample: Sample, read: Read, clock: Clock, alone: list[Place]) -> MediaError | None:
        """Read a sample and queue its units, those that this thread is to encode itself in alone; says what is wrong
        with it."""
        try:
            media = read()
            clock.turn_to("preprocess")
            prepared = self._encoder.prepare(media)
            sample.times_T2 = prepared.times_T2
            for unit in prepared.units:
                with self._lock:
                    batch = self._lanes.add(sample, unit, self.batch_size)
                if batch:
                    clock.turn_to(None)
                    self._pass_on(batch, alone)
                    clock.turn_to("preprocess")
        except MediaError as error:
            return error
        except memory_failures() as error:
            if not is_out_of_memory(error):
                raise
            return MediaError(Reason.TOO_LARGE, "preparing it takes more memory than there is")
        return None

    def _pass_on(self, batch: list[Place], alone: list[Place]) -> None:
        """Hand a full batch to the model or, where it is one unit that this thread is to encode, put it with those."""
        unit = batch[0].unit
        if not (self._is_cpu and self._encoder.size_of_batch(unit.shape) == 1):
            self._launch(batch)
            return
        alone += batch
        if sum(place.unit.nbytes for place in alone) > _ALONE_BYTES:
            self._run_alone(alone)

    def _launch(self, batch: list[Place]) -> None:
        """Hand a batch to the model; waits for room in its queue."""
        self._room.acquire()
        with self._lock:
            self._num_busy += 1
        samples = list({id(place.sample): place.sample for place in batch}.values())
        future = self._runners.submit(self._run, batch, encode_units)
        future.add_done_callback(partial(self._end, samples))

    def _run_alone(self, alone: list[Place]) -> None:
        """Encode units that are a batch each, and forget them; on the thread that decoded them."""
        if alone:
            self._room.acquire()
            self._run(alone, encode_each)
            alone.clear()

    def _run(self, batch: list[Place], encode: Encode) -> None:
        """Encode units; on a thread of the model."""
        try:
            outcomes, spent_s = self._models.run(encode, [place.unit for place in batch], self.batch_size)
        finally:
            self._room.release()
        with self._lock:
            for place, outcome in zip(batch, outcomes, strict=True):
                place.sample.take(place.index, outcome)
            self.times.add(spent_s)

    def _end(self, samples: list[Sample], future: "Future[None]") -> None:
        self._note_end(samples, None if future.cancelled() else future.exception())

    def _note_end(self, samples: list[Sample], failure: BaseException | None) -> None:
        """Note that work on the samples has ended, and what it raised, and wake those who wait."""
        with self._lock:
            self._num_busy -= 1
            for sample in samples:
                sample.failure = sample.failure or failure
            self._wake(samples)

    def _wake(self, samples: list[Sample]) -> None:
        """Wake those whose sample is done; if nothing is under way, one feed too, which will find that it is stuck.

        Others sleep on: with many feeds waking all of them takes longer than the work.
        """
        for sample in samples:
            if sample.waiter is not None and sample.is_done:
                sample.waiter.notify()
        if self._num_busy == 0 and self._waiting:
            next(iter(self._waiting)).notify()

    def _wait_for(self, sample: Sample) -> None:
        """Wait until the sample is done, and see to it that it can be: a lane that it waits in may never fill."""
        if sample.is_done:
            return
        sample.waiter = woken = threading.Condition(self._lock)
        while True:
            with self._lock:
                self._waiting.add(woken)
                woken.wait_for(lambda: sample.is_done or self._is_stuck())
                self._waiting.remove(woken)
                if sample.is_done:
                    return
                batches = self._lanes.take(sample, self._models.number)
                self._num_busy += 1  # so that nobody else finds everything stuck before these have begun
            for batch in batches:
                self._launch(batch)
            with self._lock:
                self._num_busy -= 1
                self._wake([])

    def _is_stuck(self) -> bool:
        """Whether nothing happens until a lane is encoded that is not full."""
        return self._num_busy == 0 and len(self._waiting) == self._num_feeds

    @property
    def dim(self) -> int:
        """Length of the vectors that the model gives."""
        return self._encoder.dim

    def take_times(self) -> Times:
        """Where time went since this was last asked."""
        with self._lock:
            taken, self.times = self.times, Times()
        return taken


def encode_samples(
    encoder: Encoder, samples: Iterable[tuple[Any, Media]]
) -> Iterator[tuple[Any, Encoded | MediaError]]:
    """Encode samples, given as keys and media, with a loaded encoder; they come out as they came in."""

    def given(media: Media) -> Read:
        return lambda: media

    with Session([encoder]) as session:
        yield from session.encode((key, given(media)) for key, media in samples)


def _use_one_thread() -> None:
    """Let torch work on the thread that calls it: there is one of them for each processor already."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)

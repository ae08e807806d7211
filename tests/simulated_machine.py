"""The GPUs that tests simulate: their memory, their streams, and how they fail."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch

_running: list[Gpus] = []


@contextmanager
def running(number: int, memory_bytes: int | None) -> Iterator[Gpus]:
    """GPUs for as long as the block runs, for all threads."""
    _running.append(Gpus(number, memory_bytes))
    try:
        yield _running[-1]
    finally:
        _running.pop()


def machine() -> Gpus:
    """The GPUs that there are."""
    return _running[-1]


def numbered(device: Any) -> torch.device:
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


class SimulatedTensor(torch.Tensor):
    """A tensor on one of them; held: its numbers; stream, made: where it was written last, and when."""

    held: torch.Tensor
    stream: Stream
    made: int


class Gpus:
    """memory_bytes: of each GPU, None for no end.

    launched: how many kernels each has run; streams: the GPUs of those that were made, beside the one that each has.
    """

    def __init__(self, number: int, memory_bytes: int | None) -> None:
        self.number, self.memory_bytes = number, memory_bytes
        self.launched: Counter[int] = Counter()
        self.streams: list[int] = []
        self._first = [Stream(index, is_first=True) for index in range(number)]
        self._current = threading.local()
        self._failure: Exception | None = None
        self._spared = 0  # kernels that still run
        self._time = 0  # kernels so far, on all of them
        self._lock = threading.RLock()
        self._sharers: Counter[tuple[int, int]] = Counter()  # of a storage, by GPU and address
        self._taken_bytes: Counter[int] = Counter()

    def fail(self, error: Exception, *, after: int = 0) -> None:
        """Let every kernel raise the error, once so many have run, and whoever asks how the GPU is."""
        self._failure, self._spared = error, after

    def recover(self) -> None:
        self._failure = None

    def stream_of(self, index: int) -> Stream:
        """Where the thread's kernels go on a GPU."""
        current: Stream = getattr(self._current, "streams", {}).get(index, self._first[index])
        return current

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before = getattr(self._current, "streams", {})
        self._current.streams = {**before, stream.index: stream}
        try:
            yield
        finally:
            self._current.streams = before

    def launch(self, index: int, tensors: Sequence[SimulatedTensor]) -> None:
        """A kernel on the thread's stream. Raises AssertionError if one of its tensors may not be there yet."""
        stream = self.stream_of(index)
        with self._lock:
            self._check()
            self._spared -= 1
            self._time += 1
            self.launched[index] += 1
            for tensor in tensors:
                if tensor.stream is not stream and tensor.made > tensor.stream.waited_for:
                    raise AssertionError("a kernel takes what another stream is to make, and nothing waits for that")

    def finish(self, tensor: SimulatedTensor) -> None:
        """Note who wrote to a tensor last."""
        tensor.stream, tensor.made = self.stream_of(tensor.device.index), self._time

    def wait(self, stream: Stream) -> None:
        self._check()
        stream.waited_for = self._time

    def synchronize(self, device: Any = None) -> None:
        self._check()
        for stream in Stream.made:
            if device is None or stream.index == numbered(device).index:
                stream.waited_for = self._time

    def _check(self) -> None:
        if self._failure is not None and self._spared <= 0:
            raise self._failure

    def hold(self, tensor: SimulatedTensor) -> None:
        """Take memory for a tensor until it is gone. Raises torch.OutOfMemoryError."""
        storage, index = tensor.held.untyped_storage(), tensor.device.index
        with self._lock:
            if not self._sharers[index, storage.data_ptr()]:
                if self.memory_bytes is not None and self._taken_bytes[index] + storage.nbytes() > self.memory_bytes:
                    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {storage.nbytes()} bytes")
                self._taken_bytes[index] += storage.nbytes()
            self._sharers[index, storage.data_ptr()] += 1
        weakref.finalize(tensor, self._let_go, index, storage)

    def _let_go(self, index: int, storage: Any) -> None:
        with self._lock:
            self._sharers[index, storage.data_ptr()] -= 1
            if not self._sharers[index, storage.data_ptr()]:
                self._taken_bytes[index] -= storage.nbytes()


class Stream:
    """waited_for: what it had been given by then is done, in kernels of all GPUs."""

    made: ClassVar[weakref.WeakSet[Stream]] = weakref.WeakSet()

    def __init__(self, device: Any, *, is_first: bool = False) -> None:
        self.index, self.waited_for = numbered(device).index, 0
        self.made.add(self)
        if not is_first:
            machine().streams.append(self.index)


class Event:
    """A point of a stream that may be waited for."""

    def __init__(self, blocking: bool = False) -> None:
        self.blocking = blocking

    def record(self, stream: Stream) -> None:
        self.stream = stream

    def synchronize(self) -> None:
        machine().wait(self.stream)

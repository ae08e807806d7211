"""Batches of tensors: the one module beside the encoders that needs torch."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from features.loader import Batch, Batches
from features.order import EpochOrder

_PREFETCH = 2  # steps that a worker is asked for ahead
_SLOTS = _PREFETCH + 1  # and the one that the loader copies, having just asked for another in its place


class TensorBatches(IterableDataset[Batch]):
    """The steps of an epoch as tensors, for a DataLoader(..., batch_size=None): worker w of W gives w, w + W, ..

    A pass is the epoch that set_epoch() named, or begins where the Batches were when this was made. It keeps no
    account of what was trained on, since a worker reads ahead: TensorLoader does.
    """

    def __init__(self, batches: Batches) -> None:
        batches.order = _among_ranks(batches.order)
        self.batches = batches
        # In shared memory, so that workers that live on from epoch to epoch see the next one too.
        self._start = _shared(torch.tensor([batches.epoch, batches.state_dict()["position"]]))

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """The epoch of the next pass, and how many of its samples have been taken before it."""
        self._start.copy_(torch.tensor([epoch, position]))

    def __len__(self) -> int:
        """Steps in a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.stored():
            yield {name: _converted(part, self.batches.dtypes.get(name)) for name, part in batch.items()}

    def stored(self) -> Iterator[Batch]:
        """This worker's steps as numpy arrays, of the dtype that takes no conversion."""
        epoch, position = self._start.tolist()
        worker, num_workers = _place()
        return map(
            self.batches.stored_batch, self.batches.rows(epoch, position, worker=worker, num_workers=num_workers)
        )


class _SlotBatches(TensorBatches):
    """The steps with the vectors of pooled views left in memory that this process shares with its loader.

    Tensors that are handed over one by one cost more than reading them: each is new memory, and a file descriptor.
    """

    def __init__(self, batches: Batches, *, num_workers: int) -> None:
        super().__init__(batches)
        self.slots = {
            name: _shared(
                torch.empty(num_workers, _SLOTS, batches.order.batch_size, view.dim, dtype=_dtype(view.dtype))
            )
            for name, view in batches.pooled.items()
        }

    def __iter__(self) -> Iterator[Batch]:
        worker, _ = _place()
        for number, batch in enumerate(self.stored()):
            slot = (worker, number % _SLOTS)
            for name, part in batch.items():
                if name in self.slots:
                    self.slots[name][slot][: len(part)] = torch.from_numpy(part)
            yield {**batch, **dict.fromkeys(self.slots, slot)}

    def taken(self, batch: Batch) -> Batch:
        """The batch with its vectors where they are shared, until the loader asks for the next step."""
        num_samples = len(batch["key"])
        return {**batch, **{name: slots[batch[name]][:num_samples] for name, slots in self.slots.items()}}


class TensorLoader:
    """One epoch of tensors per iteration, read by workers that live on between epochs.

    Its state is what has been handed out, however far the workers have read ahead.
    """

    def __init__(self, batches: Batches, *, num_workers: int, pin_memory: bool | None) -> None:
        self._batches = batches
        self._dataset = _SlotBatches(batches, num_workers=num_workers)
        self._pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._workers: Iterable[Batch] | None = None
        if num_workers:
            self._workers = DataLoader(
                self._dataset,
                batch_size=None,
                num_workers=num_workers,
                prefetch_factor=_PREFETCH,
                persistent_workers=True,
                collate_fn=_as_is,
            )

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to."""
        return self._batches.epoch

    def __len__(self) -> int:
        """Steps in a whole epoch, the same on every rank."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches.counted(self._steps)

    def _steps(self, position: int) -> Iterator[Batch]:
        self._dataset.set_epoch(self.epoch, position)
        if self._workers is None:
            return map(self._tensors, self._dataset.stored())
        return (self._tensors(self._dataset.taken(batch)) for batch in self._workers)

    def _tensors(self, batch: Batch) -> Batch:
        return {name: self._own(part, self._batches.dtypes.get(name)) for name, part in batch.items()}

    def _own(self, part: Any, dtype: str | None) -> Any:
        """An array in memory of its own, converted on the way there; what is no array as it is."""
        if isinstance(part, list):
            return part
        stored = torch.as_tensor(part)
        wanted = _dtype(dtype) if dtype else stored.dtype
        if self._workers is None and not self._pin_memory:
            return stored.to(wanted)  # it was gathered for this batch alone
        return torch.empty(stored.shape, dtype=wanted, pin_memory=self._pin_memory).copy_(stored)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop that takes the batches is."""
        return self._batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last step of the state, also with other workers, batch_size or world_size.

        Raises StoreError if the state was saved with another seed or over other samples.
        """
        self._batches.load_state_dict(state)


def _among_ranks(order: EpochOrder) -> EpochOrder:
    """The order with the rank that torch.distributed gives this process, where none was named."""
    if order.rank is None and distributed.is_available() and distributed.is_initialized():
        return replace(order, rank=distributed.get_rank(), world_size=distributed.get_world_size())
    return order


def _place() -> tuple[int, int]:
    """The number of this worker, and how many there are."""
    worker = get_worker_info()
    return (worker.id, worker.num_workers) if worker is not None else (0, 1)


def _converted(part: Any, dtype: str | None) -> Any:
    if not isinstance(part, np.ndarray):
        return part
    tensor = torch.from_numpy(part)
    return tensor.to(_dtype(dtype)) if dtype else tensor


def _dtype(name: str) -> torch.dtype:
    return getattr(torch, name)


def _shared(tensor: Tensor) -> Tensor:
    return tensor.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _as_is(batch: Any) -> Any:
    """Instead of torch's own, which looks at every key and label."""
    return batch

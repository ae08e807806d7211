"""Batches for training, in an order that any number of ranks and workers can share and resume."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from features.encoders.base import Encoded
from features.errors import StoreError
from features.keys import texts
from features.order import EpochOrder
from features.paging import PagedTexts, paged
from features.reading import ShardReader
from features.rev import digest_pieces
from features.view import DTYPES

if TYPE_CHECKING:
    from features.torch_loader import TensorBatches, TensorLoader

Batch = dict[str, Any]
"""key: list[str]; label: list[str | None]; and for each view, 0 where there is nothing:

<view>: [sample, dim], or [sample, time, dim] of a view of sequences, as long as the longest of the batch;
<view>_present: bool [sample]; of sequences also <view>_mask: bool [sample, time], and
<view>_times_s: float64 [sample, time, 2], start and end in seconds from the start of the sample.
"""

_PIECE_ROWS = 1 << 16
_Step = TypeVar("_Step")


class Batches:
    """One epoch per iteration, of this rank's share of every step.

    Iterating starts an epoch anew unless a state was loaded; the epoch counts up when it has been run to its end.
    Memory holds the batch alone: keys, labels, the order and what is present lie in files without a name.
    """

    def __init__(
        self, reader: ShardReader, rows_N: np.ndarray, views: Iterable[str], *, order: EpochOrder, dtype: str | None
    ) -> None:
        """rows_N: the samples to go over; dtype: of the vectors, None for the stored one.

        Raises StoreError for an unknown view or one whose arrays would have the name of another's.
        """
        if dtype not in (None, *DTYPES):
            raise ValueError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}, None")
        self.order = order
        views = texts(views, "views")
        self.dtypes = {name: dtype or reader.view(name).dtype for name in views}
        self.pooled = {name: view for name, view in reader.views.items() if name in views and not view.is_sequence}
        names = ["key", "label", *(part for name in views for part in _parts(reader, name))]
        if twice := {name for name in names if names.count(name) > 1}:
            raise StoreError(f"views {', '.join(views)}: a batch would have {min(twice)!r} twice; leave one view out")
        self._rows_N = paged([rows_N], np.uint32 if reader.num_rows <= 1 << 32 else np.int64)
        self._selection = _digest(reader, views, rows_N)
        self.epoch = self._position = self._resume_at = 0
        self._open(reader)

    def _open(self, reader: ShardReader) -> None:
        self._reader = reader
        self._samples = _keys_and_labels(reader)
        self._present = {name: _all_present(reader, name) for name in self.dtypes}

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads for itself what was read of the store."""
        return {**self.__dict__, "_samples": None, "_present": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._rows_N = paged([self._rows_N], self._rows_N.dtype)
        self._open(self._reader)

    def __len__(self) -> int:
        """Steps in a whole epoch, the same on every rank."""
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        return self.counted(lambda position: map(self.batch, self.rows(self.epoch, position)))

    def counted(self, steps: Callable[[int], Iterable[_Step]]) -> Iterator[_Step]:
        """Hand out the steps of the rest of an epoch, given its position, and remember each as it is handed out."""
        self._position, self._resume_at = self._resume_at, 0
        taken = self.order.steps(self._position)
        for places, step in zip(taken, steps(self._position), strict=True):
            self._position = places.stop
            yield step
        self.epoch, self._position = self.epoch + 1, 0

    def rows(self, epoch: int, position: int, *, worker: int = 0, num_workers: int = 1) -> Iterator[np.ndarray]:
        """int64 [sample] a step: the rows of this rank from a position of an epoch on.

        Of several workers each has every num_workers-th step, so that asking them in turn gives all in order.
        """
        order_N = self.order.shuffled(self._rows_N, epoch)
        for places in islice(self.order.steps(position), worker, None, num_workers):
            yield order_N[self.order.share(places)].astype(np.int64)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: everything of this epoch that has been handed out, on all ranks."""
        return {
            "epoch": self.epoch,
            "position": self._position,
            "seed": self.order.seed,
            "selection": self._selection,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last step of the state, also with another batch_size, rank or world_size.

        Raises StoreError if the state was saved with another seed or over other samples, or is none.
        """
        for name, here in (("seed", self.order.seed), ("selection", self._selection)):
            if state.get(name) != here:
                raise StoreError(
                    f"the loader's state has {name} {state.get(name)!r}, this loader {here!r}: resume with the store "
                    "version, views, split, condition and seed that it was saved with"
                )
        epoch, position = state.get("epoch"), state.get("position")
        if not isinstance(epoch, int) or not isinstance(position, int) or not 0 <= position <= self.order.num_samples:
            raise StoreError(
                f"the loader's state has epoch {epoch!r} and position {position!r}; a position is from 0 to "
                f"{self.order.num_samples}: pass what state_dict() gave"
            )
        self.epoch, self._position = epoch, position
        self._resume_at = self._position

    def batch(self, rows_N: np.ndarray) -> Batch:
        """The samples of these rows, with vectors of the dtype that was asked for."""
        batch = self.stored_batch(rows_N)
        return {**batch, **{name: batch[name].astype(dtype, copy=False) for name, dtype in self.dtypes.items()}}

    def stored_batch(self, rows_N: np.ndarray) -> Batch:
        """As batch(), but vectors have a dtype that takes no conversion."""
        taken = self._samples.take(pa.array(rows_N))
        batch: Batch = {name: taken[name].to_pylist() for name in taken.column_names}
        for name in self.dtypes:
            view, present_N = self._reader.view(name), self._present[name][rows_N]
            if view.is_sequence:
                padded = pad_sequences(self._reader.gather_sequences(name, rows_N), view.dim)
                batch[name], batch[f"{name}_mask"], batch[f"{name}_times_s"] = padded
            else:
                batch[name] = self._reader.gather(name, rows_N)
                batch[name][~present_N] = 0
            batch[f"{name}_present"] = present_N
        return batch

    def torch(self) -> "TensorBatches":
        """The same steps as a torch IterableDataset, for a DataLoader(..., batch_size=None) of your own."""
        from features.torch_loader import TensorBatches

        return TensorBatches(self)

    def loader(self, *, num_workers: int = 0, pin_memory: bool | None = None) -> "TensorLoader":
        """The same steps as tensors, read by worker processes: equal batches in equal order for any number of them.

        pin_memory: None pins where CUDA is available. It counts on from where this object is, and its state is this
        object's.
        """
        from features.torch_loader import TensorLoader

        return TensorLoader(self, num_workers=num_workers, pin_memory=pin_memory)


def pad_sequences(sequences: Sequence[Encoded | None], dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 [sample, time, dim] vectors, bool [sample, time] mask and float64 [sample, time, 2] intervals.

    All are as long as the longest sequence, and 0 behind the end of one and where a sample has none.
    """
    found = [sequence for sequence in sequences if sequence is not None]
    lengths_N = np.array([0 if sequence is None else len(sequence.vectors_TD) for sequence in sequences], np.int64)
    mask_NT = np.arange(lengths_N.max(initial=0)) < lengths_N[:, None]
    vectors_NTD = np.zeros((*mask_NT.shape, dim), np.float32)
    times_NT2 = np.zeros((*mask_NT.shape, 2))
    if found:
        vectors_NTD[mask_NT] = np.concatenate([sequence.vectors_TD for sequence in found])
        times_NT2[mask_NT] = np.concatenate([sequence.times_T2 for sequence in found])
    return vectors_NTD, mask_NT, times_NT2


def _parts(reader: ShardReader, name: str) -> list[str]:
    """The names of a view's arrays in a batch."""
    ends = ("", "_present", "_mask", "_times_s") if reader.view(name).is_sequence else ("", "_present")
    return [f"{name}{end}" for end in ends]


def _digest(reader: ShardReader, views: Sequence[str], rows_N: np.ndarray) -> str:
    """Of the files that are read and of the rows, piece by piece, since there may be many."""
    names = "\n".join(views).encode()
    stored = [reader.view(name).digests for name in views]
    files = ([shard.digest, *(digests[shard.name] for digests in stored)] for shard in reader.shards)
    rows = (rows_N[start : start + _PIECE_ROWS] for start in range(0, len(rows_N), _PIECE_ROWS))
    return digest_pieces(
        [
            (len(names), [names]),
            (len(reader.shards), (digest.encode() for digests in files for digest in digests)),
            (len(rows_N), (rows_P.astype("<i8").tobytes() for rows_P in rows)),
        ]
    )


def _keys_and_labels(reader: ShardReader) -> pa.Table:
    columns = {name: PagedTexts() for name in ("key", "label")}
    for index in range(len(reader.shards)):
        samples = reader.open_samples(index)
        for name, column in columns.items():
            for chunk in samples[name].chunks:
                column.append(chunk)
    return pa.table({name: column.array() for name, column in columns.items()})


def _all_present(reader: ShardReader, name: str) -> np.ndarray:
    """bool [row]."""
    if reader.view(name).num_present == reader.num_rows:
        return np.broadcast_to(True, reader.num_rows)
    return paged((reader.present(name, index) for index in range(len(reader.shards))), bool)

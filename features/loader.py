"""Batches for training, in an order that any number of ranks can share and resume."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from features.errors import StoreError
from features.reading import ShardReader
from features.rev import digest_bytes, digest_json, seed_of

Batch = dict[str, Any]
"""key: list[str]; label: list[str | None]; <view>: float32 [sample, dim], 0 where absent; <view>_present: bool."""


class Batches:
    """One epoch per iteration, of this rank's share of every step.

    The order of an epoch is a function of the seed and the epoch alone, and a step takes the next samples of that
    order for all ranks together, so a state is one position and can be resumed with another world_size. All ranks
    have equally many steps; where a step has fewer samples than ranks, some get a batch of no samples, never a copy.
    Iterating starts an epoch anew unless a state was loaded; the epoch counts up when it has been run to its end.
    """

    def __init__(
        self,
        reader: ShardReader,
        rows_N: np.ndarray,
        views: Sequence[str],
        *,
        batch_size: int,
        seed: int | None,
        rank: int,
        world_size: int,
    ) -> None:
        """rows_N: the samples to go over; seed: None keeps them in key order."""
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"batch_size {batch_size} must be at least 1, rank {rank} from 0 to below {world_size}")
        self._reader = reader
        self._rows_N = rows_N
        self._views = [reader.pooled_view(name).name for name in views]
        self._batch_size, self._seed, self._rank, self._world_size = batch_size, seed, rank, world_size
        self._samples = _identity(reader)
        self._present = {name: _all_present(reader, name) for name in views}
        shards = digest_json([shard.digest for shard in reader.shards])
        self._selection = digest_bytes(shards.encode(), rows_N.astype("<i8").tobytes())
        self._epoch = self._position = self._resume_at = 0

    def __len__(self) -> int:
        """Steps in a whole epoch, the same on every rank."""
        return -(-len(self._rows_N) // (self._batch_size * self._world_size))

    def __iter__(self) -> Iterator[Batch]:
        order_N = self._order()
        self._position, self._resume_at = self._resume_at, 0
        while self._position < len(order_N):
            start = self._position
            count = self._step_size(len(order_N) - start)
            first, last = (start + count * rank // self._world_size for rank in (self._rank, self._rank + 1))
            self._position = start + count
            yield self._batch(order_N[first:last])
        self._epoch, self._position = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: everything of this epoch that has been handed out, on all ranks."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "seed": self._seed,
            "selection": self._selection,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last step of the state, also with another batch_size, rank or world_size.

        Raises StoreError if the state was saved with another seed or over other samples.
        """
        for name, here in (("seed", self._seed), ("selection", self._selection)):
            if state[name] != here:
                raise StoreError(
                    f"the loader's state has {name} {state[name]!r}, this loader {here!r}: resume with the store "
                    "version, split, condition and seed that it was saved with"
                )
        self._epoch, self._position = state["epoch"], state["position"]
        self._resume_at = self._position

    def _order(self) -> np.ndarray:
        if self._seed is None:
            return self._rows_N
        return np.random.default_rng(seed_of(self._seed, "epoch", str(self._epoch))).permutation(self._rows_N)

    def _step_size(self, num_left: int) -> int:
        """Samples that all ranks take together; the last step but one leaves one a rank for the last, if it can."""
        full = self._batch_size * self._world_size
        if self._batch_size > 1 and full < num_left < full + self._world_size:
            return num_left - self._world_size
        return min(full, num_left)

    def _batch(self, rows_N: np.ndarray) -> Batch:
        taken = self._samples.take(pa.array(rows_N))
        batch: Batch = {name: taken[name].to_pylist() for name in taken.column_names}
        for name in self._views:
            present_N = self._present[name][rows_N]
            vectors_ND = self._reader.gather(name, rows_N).astype(np.float32)
            vectors_ND[~present_N] = 0
            batch[name], batch[f"{name}_present"] = vectors_ND, present_N
        return batch


def _identity(reader: ShardReader) -> pa.Table:
    tables = [reader.samples(index).select(["key", "label"]) for index in range(len(reader.shards))]
    empty = pa.schema([("key", pa.string()), ("label", pa.string())]).empty_table()
    return pa.concat_tables(tables).combine_chunks() if tables else empty


def _all_present(reader: ShardReader, name: str) -> np.ndarray:
    present = [reader.present(name, index) for index in range(len(reader.shards))]
    return np.concatenate([np.empty(0, dtype=bool), *present])

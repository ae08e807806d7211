"""The order of an epoch, and which samples of it each rank takes at each step."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np

from features.paging import paged
from features.rev import seed_of


@dataclass(frozen=True)
class EpochOrder:
    """The order is a function of the seed and the epoch alone, and a step takes the next samples of it for all ranks
    together: so one position is the whole state, and means the same with another batch_size or world_size.

    All ranks have equally many steps; where a step has fewer samples than ranks, some take none, never a copy.
    """

    num_samples: int
    _: KW_ONLY
    batch_size: int
    seed: int | None  # None: the order that the samples are given in
    rank: int | None  # None: nobody named one, which is the only one
    world_size: int | None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")
        if (self.rank is None) != (self.world_size is None):
            raise ValueError(f"rank is {self.rank} and world_size {self.world_size}: give both or none")
        if not 0 <= self._rank < self._num_ranks:
            raise ValueError(f"rank is {self.rank}; it must be from 0 to below world_size, which is {self.world_size}")

    @property
    def _rank(self) -> int:
        return self.rank or 0

    @property
    def _num_ranks(self) -> int:
        return 1 if self.world_size is None else self.world_size

    def shuffled(self, rows_N: np.ndarray, epoch: int) -> np.ndarray:
        """The samples in the order of an epoch."""
        if self.seed is None:
            return rows_N
        shuffled_N = paged([rows_N], rows_N.dtype)
        np.random.default_rng(seed_of(self.seed, "epoch", str(epoch))).shuffle(shuffled_N)
        return shuffled_N

    def steps(self, position: int) -> Iterator[range]:
        """The places of the order that each step from a position on takes, over all ranks."""
        while position < self.num_samples:
            step = range(position, position + self._step_size(self.num_samples - position))
            yield step
            position = step.stop

    def share(self, step: range) -> slice:
        """This rank's part of a step: the parts of all ranks, one after the other, are the step."""
        first, last = (step.start + len(step) * rank // self._num_ranks for rank in (self._rank, self._rank + 1))
        return slice(first, last)

    def __len__(self) -> int:
        """Steps in a whole epoch, the same on every rank."""
        return -(-self.num_samples // (self.batch_size * self._num_ranks))

    def _step_size(self, num_left: int) -> int:
        """Samples that all ranks take together; the last step but one leaves one a rank for the last, if it can."""
        full = self.batch_size * self._num_ranks
        if self.batch_size > 1 and full < num_left < full + self._num_ranks:
            return num_left - self._num_ranks
        return min(full, num_left)

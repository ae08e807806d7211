"""Views of a store on another time base: which intervals are meant, and which vectors lie at them."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from features.aligned import Aligned
from features.alignment import HOWS, How, align_intervals, vector_matrix
from features.errors import ShardError, StoreError, nearest
from features.intervals import Intervals, flat_lists, floats
from features.keys import texts
from features.reading import ShardReader
from features.recent import Recent
from features.sample import SAMPLE_SCHEMA

_MOST_THREADS = 4
_MOST_WINDOWS = 100_000_000  # at once: their times alone take 1.6 GB

WORD, SEGMENT = "word", "segment"

TimeBase: TypeAlias = str | float | Intervals | Sequence[np.ndarray] | pa.Array
"""See Store.align()."""


class _Run(NamedTuple):
    """Rows of one shard that follow each other; place: of the first one among all rows that were asked for."""

    shard: int
    start: int
    num_rows: int
    place: int


class Aligner:
    """Puts views on one time base, for any rows of a store."""

    def __init__(
        self, reader: ShardReader, views: Iterable[str], *, to: TimeBase, how: How | Mapping[str, How] = "mean"
    ) -> None:
        """Raises StoreError for an unknown view or time base, ValueError for an unknown how."""
        views = texts(views, "views")
        self._reader, self._to = reader, to
        self._samples_of, self._columns = reader.samples, reader.columns
        self._views = {name: reader.view(name) for name in views}
        hows = dict.fromkeys(views, how) if isinstance(how, str) else {**dict.fromkeys(views, "mean"), **how}
        if hows.keys() != self._views.keys() or not set(hows.values()) <= set(HOWS):
            raise ValueError(f"how is {how!r}; it must be one of {', '.join(HOWS)}, or a mapping from views to these")
        self._hows: dict[str, Any] = hows
        bases = [WORD, SEGMENT, *(name for name, view in reader.views.items() if view.is_sequence)]
        if isinstance(to, str) and to not in bases:
            raise StoreError(
                f"{to!r} is no time base of {reader.folder}{nearest(to, bases)}; there are {', '.join(bases)}, a rate "
                "in hertz, and intervals of your own"
            )

    def batches(self, rows_N: np.ndarray, batch_size: int) -> Iterator[Aligned]:
        """The rows in turn, batch_size at a time; the next batches are made while one is used.

        A batch may begin in one shard and end in the next: so many stay mapped of each view, and no others, or all that
        was read would count as memory of this process.
        """
        num_threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        tables: Recent[tuple[str, int], pa.Table] = Recent(2 * num_threads * (len(self._views) + 1))

        def columns(name: str, index: int) -> pa.Table:
            return tables.get((name, index)) or tables.keep((name, index), self._reader.open_columns(name, index))

        def samples(index: int) -> pa.Table:
            return tables.get(("", index)) or tables.keep(("", index), self._reader.open_samples(index))

        self._samples_of, self._columns = samples, columns
        waiting: deque[Future[Aligned]] = deque()
        with ThreadPoolExecutor(num_threads) as pool:
            for start in range(0, len(rows_N), batch_size):
                waiting.append(pool.submit(self.align, rows_N[start : start + batch_size]))
                if len(waiting) > num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def align(self, rows_N: np.ndarray) -> Aligned:
        """The views of any rows; intervals of the caller's own are those of these rows.

        Raises ValueError for intervals of another number of samples.
        """
        runs = list(self._runs(rows_N))
        samples = self._samples(runs)
        targets, words = self._targets(runs, samples)
        if len(targets) != len(rows_N):
            raise ValueError(f"intervals of {len(targets)} samples are given for {len(rows_N)} keys")
        found = {name: self._align_view(name, rows_N, runs, targets) for name in self._views}
        return Aligned(
            samples["key"].to_pylist(),
            targets,
            {name: values_TD for name, (values_TD, _) in found.items()},
            {name: mask_T for name, (_, mask_T) in found.items()},
            words,
        )

    def require_clocks(self, rows_N: np.ndarray) -> None:
        """Raise StoreError if a view of sequences has vectors in these rows and no time for any of them."""
        runs = list(self._runs(rows_N))
        for name in (name for name, view in self._views.items() if view.is_sequence):
            start_T = np.concatenate([np.empty(0), *(self._sequences(name, run)[1].start_T for run in runs)])
            if len(start_T) and np.isnan(start_T).all():
                raise StoreError(
                    f"view {name!r} keeps no times for these keys, so it has no place on a time base: tokens of a text "
                    "have times where its words have; use a view of it with one vector a sample, or leave it out"
                )

    def _runs(self, rows_N: np.ndarray) -> Iterator[_Run]:
        starts = self._reader.starts
        shards_N = np.searchsorted(starts, rows_N, side="right") - 1
        breaks_N = (np.diff(rows_N) != 1) | (np.diff(shards_N) != 0)
        for place, stop in pairwise([0, *(np.flatnonzero(breaks_N) + 1).tolist(), len(rows_N)] if len(rows_N) else []):
            shard = int(shards_N[place])
            yield _Run(shard, int(rows_N[place] - starts[shard]), stop - place, place)

    def _samples(self, runs: Sequence[_Run]) -> pa.Table:
        parts = [self._samples_of(run.shard).slice(run.start, run.num_rows) for run in runs]
        return pa.concat_tables(parts or [SAMPLE_SCHEMA.empty_table()])

    def _windows(self, duration_K: np.ndarray, rate_hz: float) -> Intervals:
        num_windows = np.nansum(duration_K) * rate_hz
        if num_windows > _MOST_WINDOWS:
            raise StoreError(
                f"{rate_hz:g} hertz would make {num_windows:.2g} windows of {len(duration_K)} keys, above "
                f"{_MOST_WINDOWS:,}: choose a lower rate, or fewer keys at once"
            )
        return Intervals.windows(duration_K, rate_hz)

    def _targets(self, runs: Sequence[_Run], samples: pa.Table) -> tuple[Intervals, pa.Array | None]:
        """The intervals of the time base, and the texts of words."""
        start_K, end_K = (floats(samples[name]) for name in ("start_s", "end_s"))
        to = self._to
        if isinstance(to, Intervals):
            return to, None
        if isinstance(to, pa.Array | pa.ChunkedArray):
            return Intervals.from_arrow(to), None
        if isinstance(to, int | float | np.number):
            return self._windows(end_K - start_K, float(to)), None
        if not isinstance(to, str):
            return Intervals.ragged(to), None
        if to == WORD:
            words = samples["words"].combine_chunks()
            # A sample without a timeline is its whole recording.
            return Intervals.from_arrow(words).shifted(-np.nan_to_num(start_K)), flat_lists(words)[1].field("text")
        if to == SEGMENT:
            return Intervals(start_K - start_K, end_K - start_K, np.arange(len(start_K) + 1)), None
        return Intervals.joined([self._sequences(to, run)[1] for run in runs]), None

    def _align_view(
        self, name: str, rows_N: np.ndarray, runs: Sequence[_Run], targets: Intervals
    ) -> tuple[np.ndarray, np.ndarray]:
        """float32 [target, dim] and bool [target]."""
        view, holds_time_T = self._views[name], ~(targets.end_T <= targets.start_T)
        if not view.is_sequence:  # what is known of a sample as a whole holds at all its times
            values_TD = self._reader.gather(name, rows_N).astype(np.float32)[targets.samples]
            values_TD[~holds_time_T] = np.nan
            return values_TD, ~np.isnan(values_TD).all(axis=1)
        values_TD = np.empty((len(holds_time_T), view.dim), np.float32)
        mask_T = np.empty(len(holds_time_T), bool)
        for run in runs:
            vectors, sources = self._sequences(name, run)
            samples = slice(run.place, run.place + run.num_rows)
            part = slice(*targets.offsets[[samples.start, samples.stop]].tolist())
            if isinstance(self._to, str) and name == self._to:  # an array would be compared number by number
                values_TD[part], mask_T[part] = vector_matrix(vectors), holds_time_T[part]
            else:
                values_TD[part], mask_T[part] = align_intervals(vectors, sources, targets[samples], self._hows[name])
        return values_TD, mask_T

    def _sequences(self, name: str, run: _Run) -> tuple[pa.Array, Intervals]:
        """The vectors of a run of rows as a list column over the shard's map, and their intervals."""
        table = self._columns(name, run.shard)
        lists: Any = [table[part].chunk(0).slice(run.start, run.num_rows) for part in ("embedding", "start_s", "end_s")]
        offsets, _ = flat_lists(lists[0])
        try:
            start_T, end_T = (floats(flat_lists(times)[1]) for times in lists[1:])
            return lists[0], Intervals(start_T, end_T, offsets)
        except ValueError as error:
            file = self._views[name].files[self._reader.shards[run.shard].name]
            raise ShardError(f"shard {self._reader.folder / name / file}: {error}: run 'plait check'") from error

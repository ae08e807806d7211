"""The plan of a view: which of its shards stand, and for the others which rows are copied and which are encoded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.encoders.base import Encoder
from features.encoders.weights import check_pin
from features.rev import feature_key
from features.shards import Shard, shard_file, shard_name
from features.view import View
from pipelines.code import stage_code
from pipelines.fingerprints import fingerprint_spans
from pipelines.job import Reject, ShardTask
from pipelines.published import Published, StoredRows, renamed
from pipelines.view_worker import Copies, Samples, ShardRows

_NOWHERE = -1


@dataclass(frozen=True)
class DefinedView:
    """A declared view with all that decides its rows but their inputs; rev is the hash of it."""

    view: View
    encoder: Encoder
    device: str
    definition: dict[str, Any]
    rev: str


@dataclass(frozen=True)
class ViewPlan:
    """What is to be done for a view: the shards that stand, by file, and the tasks that make the others."""

    defined: DefinedView
    files: list[str]  # of all shards, in key order
    kept: dict[str, Shard]
    tasks: list[ShardTask]
    rejects: list[Reject]  # of rows that are not encoded again, since they would be rejected again
    dim: int | None  # length of a stored vector, where the published version tells it

    @property
    def num_to_encode(self) -> int:
        """How many samples the encoder will be given."""
        return sum(len(task.inputs.encode_N) for task in self.tasks)


def define_view(view: View, encoder: Encoder, device: str) -> DefinedView:
    """The view with its rev. Needs no model in memory. Raises EncoderError if it pins other weights than are here.

    device: where encoders run that have a use for it.
    """
    device = "cpu" if encoder.is_on_cpu else device
    # The device is part of the rev: a GPU rounds otherwise, so its rows are other bytes.
    definition = {**encoder.definition(), "device": device, "worker": stage_code("pipelines.view_worker")}
    check_pin(view, definition["weights_digest"])
    return DefinedView(view, encoder, device, definition, view.rev(definition))


def plan_view(defined: DefinedView, inventory: pa.Table, spans: Sequence[range], published: Published) -> ViewPlan:
    """What has to be done so that the view has a row for each sample.

    spans: the shards, as stretches of the inventory. A row is copied where the published version holds its feature
    key, in whatever view and under whatever key; of equal inputs in one shard the first alone is encoded.
    """
    name, rev = defined.view.name, defined.rev
    rows = inventory.select(["key", f"digest_{defined.view.source}", "path", "row"])
    rows = rows.rename_columns(["key", "digest", "path", "row"])
    names, prints, files = name_shards(rev, rows.select(["key", "digest"]), spans)
    standing = published.view_shards(name)
    kept = {file: standing[file] for file in files if file in standing}
    same_rev = [view for view in published.views.values() if view.rev == rev]
    todo = [index for index, file in enumerate(files) if file not in kept]
    tasks, rejects = [], rejects_of_kept(name, rows.column("key"), spans, todo, published)
    if todo:
        planner = _RowPlanner(name, published, published.rows(same_rev))
        chosen = rows.take(np.concatenate([np.arange(spans[index].start, spans[index].stop) for index in todo]))
        folder = str((published.folder / name).resolve())
        for index, inputs in zip(todo, planner.plan(chosen, rev, [len(spans[index]) for index in todo]), strict=True):
            tasks.append(ShardTask(names[index], folder, files[index], prints[index], len(spans[index]), inputs))
        rejects += planner.rejects
    return ViewPlan(defined, files, kept, tasks, rejects, same_rev[0].dim if same_rev else None)


def name_shards(rev: str, rows: pa.Table, spans: Sequence[range]) -> tuple[list[str], list[str], list[str]]:
    """Name, fingerprint and file of each shard of a view, as its rev and the rows (key, digest of the input) say."""
    prints = fingerprint_spans(rev, rows, spans)
    names = [shard_name(rows.column("key")[span.start].as_py()) for span in spans]
    return names, prints, [shard_file(*named) for named in zip(names, prints, strict=True)]


def rejects_of_kept(
    view: str, keys: pa.ChunkedArray, spans: Sequence[range], todo: Sequence[int], published: Published
) -> list[Reject]:
    """What the published version could not encode in the shards that stay as they are."""
    rejects = [reject for (name, _), reject in published.rejects.items() if name == view]
    rows = pc.index_in(pa.array([reject.key for reject in rejects], pa.string()), value_set=keys).to_pylist()
    starts, made = [span.start for span in spans], set(todo)
    shards = [_NOWHERE if row is None else int(np.searchsorted(starts, row, "right")) - 1 for row in rows]
    return [reject for reject, shard in zip(rejects, shards, strict=True) if shard != _NOWHERE and shard not in made]


class _RowPlanner:
    """Decides row by row, for the shards that are to be made, where its embedding comes from."""

    def __init__(self, view: str, published: Published, stored: StoredRows) -> None:
        self._view = view
        self._published = published
        self._stored = stored
        self.rejects: list[Reject] = []

    def plan(self, rows: pa.Table, rev: str, lengths: Sequence[int]) -> Iterator[ShardRows]:
        """The inputs of the shards that the rows (key, digest, path, row) make up, of these lengths."""
        place_N, is_copied_N = self._find_stored(rows.column("digest").to_pylist(), rev)
        path, row_N = rows.column("path").combine_chunks(), rows.column("row").to_numpy()
        paths, file_N = path.dictionary.to_pylist(), path.indices.to_numpy()
        start = 0
        for length in lengths:
            part = slice(start, start + length)
            files, of_files_N = np.unique(file_N[part], return_inverse=True)
            samples = Samples(
                [paths[file] for file in files], of_files_N.astype(np.int32), row_N[part].astype(np.int32)
            )
            encode_N, repeats = self._choose(rows.slice(start, length), place_N[part], is_copied_N[part])
            yield ShardRows(samples, encode_N, repeats, self._copies(np.flatnonzero(is_copied_N[part]), place_N[part]))
            start += length

    def _find_stored(self, digests: list[str | None], rev: str) -> tuple[np.ndarray, np.ndarray]:
        """For each input its place among the stored rows, or nowhere, and whether there is an embedding to copy."""
        stored = self._stored
        if not stored.files:
            return np.full(len(digests), _NOWHERE), np.zeros(len(digests), bool)
        feature_keys = pa.array(
            [None if digest is None else feature_key(rev, digest) for digest in digests], pa.string()
        )
        found = pc.index_in(feature_keys, value_set=stored.feature_keys, skip_nulls=True)
        place_N = found.fill_null(_NOWHERE).to_numpy()
        is_copied_N = place_N != _NOWHERE
        is_copied_N[is_copied_N] = stored.is_present(place_N[is_copied_N])
        return place_N, is_copied_N

    def _choose(
        self, rows: pa.Table, place_N: np.ndarray, is_copied_N: np.ndarray
    ) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """The rows of a shard that are to be encoded, and those whose input is that of one of them."""
        keys, digests = rows.column("key"), rows.column("digest").to_pylist()
        encode, repeats = [], []
        first: dict[str, int] = {}
        for index in np.flatnonzero(~is_copied_N).tolist():
            digest = digests[index]
            if digest is None or (
                place_N[index] != _NOWHERE and self._is_rejected(keys[index].as_py(), place_N[index])
            ):
                continue
            if digest in first:
                repeats.append((index, first[digest]))
            else:
                first[digest] = index
                encode.append(index)
        return np.array(encode, np.int32), repeats

    def _copies(self, targets_N: np.ndarray, place_N: np.ndarray) -> list[Copies]:
        stored, places_N = self._stored, place_N[targets_N]
        copies = []
        for file in np.unique(stored.file_N[places_N]).tolist():
            of_file_N = stored.file_N[places_N] == file
            view, shard = stored.files[file]
            path = str((self._published.folder / view.name / shard.file).resolve())
            rows_N = stored.row_N[places_N[of_file_N]].astype(np.int32)
            copies.append(Copies(path, shard.digest, targets_N[of_file_N].astype(np.int32), rows_N))
        return copies

    def _is_rejected(self, key: str, place: int) -> bool:
        """Whether the stored row, which has no embedding, says that this input cannot be encoded."""
        view, _ = self._stored.files[self._stored.file_N[place]]
        reject = self._published.rejects.get((view.name, self._stored.keys[place].as_py()))
        if reject is not None:
            self.rejects.append(renamed(reject, self._view, key))
        return reject is not None

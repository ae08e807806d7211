"""Where every sample's media lie: the stages' shards as one table in key order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import StageError
from features.sample import MEDIA_SCHEMA, MODALITIES, SAMPLE_SCHEMA, TIMED_TEXT
from features.shards import read_shard
from pipelines.raw import FILE_COLUMNS
from pipelines.stage import load_stage

# A path is kept once, however many samples lie there.
LOCATION = [pa.field("path", pa.dictionary(pa.int32(), pa.string())), pa.field("row", pa.int64())]
INVENTORY_SCHEMA = pa.schema(
    [
        *SAMPLE_SCHEMA,
        *(pa.field(f"digest_{source}", pa.string()) for source in (*MODALITIES, TIMED_TEXT)),
        *LOCATION,
    ]
)
SOURCE_COLUMNS = ["key", *(f"{column}.uri" for column in FILE_COLUMNS)]
_READ = [*(name for name in SAMPLE_SCHEMA.names if name in MEDIA_SCHEMA.names), "digests"]


def read_inventory(folders: Sequence[Path], raw: pa.Table | None = None) -> pa.Table:
    """INVENTORY_SCHEMA over all shards that the stages in the folders published, sorted by key, each column in one
    piece.

    raw: SOURCE_COLUMNS of the recordings, which tell what their raw files are called; without it no source is named.
    Reads the small columns only, and looks at no row in Python. Raises StageError if a key comes twice, or a shard
    lacks a column.
    """
    paths = [folder.resolve() / shard.file for folder in folders for shard in load_stage(folder).shards]
    tables = [_read(path) for path in paths]
    empty = pa.schema([MEDIA_SCHEMA.field(name) for name in _READ]).empty_table()
    table = pa.concat_tables([empty, *tables]).combine_chunks()
    columns = {name: table.column(name) for name in _READ}
    columns["words"] = columns["words"].cast(SAMPLE_SCHEMA.field("words").type)  # fewer fields of each
    for modality in MODALITIES:
        columns[f"digest_{modality}"] = pc.struct_field(table.column("digests"), modality)
        columns[f"has_{modality}"] = pc.is_valid(columns[f"digest_{modality}"])
    columns[f"digest_{TIMED_TEXT}"] = pc.struct_field(table.column("digests"), TIMED_TEXT)
    columns["source"] = _sources(table.column("recording"), raw)
    lengths = [len(part) for part in tables]
    names = pa.array([str(path) for path in paths], pa.string())
    file_N = np.repeat(np.arange(len(paths), dtype=np.int32), lengths)
    columns["path"] = pa.DictionaryArray.from_arrays(pa.array(file_N, pa.int32()), names)
    columns["row"] = pa.array(np.concatenate([np.arange(0), *map(np.arange, lengths)]), pa.int64())
    inventory = pa.table({name: columns[name] for name in INVENTORY_SCHEMA.names}, schema=INVENTORY_SCHEMA)
    inventory = inventory.take(pc.sort_indices(inventory.column("key"))).combine_chunks()
    _check_unique(inventory.column("key"))
    return inventory


def _read(path: Path) -> pa.Table:
    try:
        return read_shard(path, _READ)
    except KeyError as error:
        raise StageError(
            f"shard {path} is of an older Plait ({error.args[0]}): run 'dvc repro', or the stages in their order"
        ) from error


def _check_unique(keys: pa.ChunkedArray) -> None:
    after = keys.slice(1)
    repeated = after.filter(pc.equal(after, keys.slice(0, len(after))))
    if len(repeated):
        key = repeated[0].as_py()
        raise StageError(f"two samples have the key {key!r}: segments are named after their recording, rename one")


def _sources(recordings: pa.ChunkedArray, raw: pa.Table | None) -> pa.ChunkedArray:
    """The URIs of each recording's files, space separated."""
    if raw is None:
        return pa.chunked_array([pa.array([""] * len(recordings), pa.string())])
    uris = [pc.struct_field(raw.column(column), "uri") for column in FILE_COLUMNS]
    # Arrow leaves out a row that has nothing to join, so that each gets something, and loses it again.
    joined = pc.utf8_slice_codeunits(pc.binary_join_element_wise("", *uris, " ", null_handling="skip"), 1)
    return pc.fill_null(joined.take(pc.index_in(recordings, value_set=raw.column("key"))), "")

"""Where every sample's media lie: the stages' shards as one table in key order."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import StageError
from features.sample import MODALITIES, SAMPLE_SCHEMA, modality_field
from features.shards import read_shard
from pipelines.ingest import load_recordings
from pipelines.raw import source_uris
from pipelines.stage import load_stage

LOCATION = [pa.field("path", pa.string()), pa.field("row", pa.int64())]
INVENTORY_SCHEMA = pa.schema(
    [
        *SAMPLE_SCHEMA,
        *(pa.field(f"digest_{modality}", pa.string()) for modality in MODALITIES),
        *LOCATION,
    ]
)


def read_inventory(folders: Sequence[Path], ingest: Path | None = None) -> pa.Table:
    """INVENTORY_SCHEMA over all shards that the stages in the folders published, sorted by key.

    ingest: the folder that tells what the raw files of a recording are called; without it no source is named.
    Reads the small columns only. Raises StageError if a key comes twice.
    """
    sources = {row["key"]: source_uris(row) for row in load_recordings(ingest)} if ingest else {}
    parts = [_inventory_of(folder / shard.file, sources) for folder in folders for shard in load_stage(folder).shards]
    table = pa.concat_tables([INVENTORY_SCHEMA.empty_table(), *parts]).sort_by("key")
    keys = table.column("key").to_pylist()
    for key, after in pairwise(keys):
        if key == after:
            raise StageError(f"two samples have the key {key!r}: segments are named after their recording, rename one")
    return table.combine_chunks()


def _inventory_of(path: Path, sources: dict[str, str]) -> pa.Table:
    shard = read_shard(path)
    columns = {name: shard.column(name) for name in SAMPLE_SCHEMA.names if name in shard.schema.names}
    columns["source"] = pa.array([sources.get(name, "") for name in shard.column("recording").to_pylist()], pa.string())
    digests = shard.column("digests")
    for modality in MODALITIES:
        columns[f"has_{modality}"] = pc.is_valid(shard.column(modality_field(modality)))
        columns[f"digest_{modality}"] = pc.struct_field(digests, modality)
    columns["path"] = pa.array([str(path.resolve())] * shard.num_rows, pa.string())
    columns["row"] = pa.array(np.arange(shard.num_rows))
    return pa.table({name: columns[name] for name in INVENTORY_SCHEMA.names}, schema=INVENTORY_SCHEMA)

"""Parquet, Lance and Hugging Face datasets: the vectors keep their dtype, and an absent one is null."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import PlaitError
from features.exports.selection import Selection
from features.sample import SAMPLE_SCHEMA

_ROW_GROUP_BYTES = 32 << 20


def write_parquet(selection: Selection, path: Path) -> None:
    """One Parquet file.

    A vector is a list there, and its length is in the metadata: Parquet has no lists of fixed size, and Arrow cannot
    read back those that it wrote as such where one is null.
    """
    with ParquetSink(path, selection.schema) as sink:
        for table in selection.tables():
            sink.write(table)


class ParquetSink:
    """Writes tables into one Parquet file, vectors as plain lists, in row groups of about equal size."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        fields = [
            field.with_type(pa.list_(field.type.value_type)) if pa.types.is_fixed_size_list(field.type) else field
            for field in schema
        ]
        self._schema = pa.schema(fields, metadata=schema.metadata)
        # Numbers of vectors hardly ever repeat, and no query asks for their range: both would only take time.
        described = SAMPLE_SCHEMA.names
        self._writer = pq.ParquetWriter(path, self._schema, use_dictionary=described, write_statistics=described)
        self._group: list[pa.Table] = []
        self._group_bytes = 0

    def __enter__(self) -> "ParquetSink":
        return self

    def __exit__(self, *error: object) -> None:
        with self._writer:
            self._flush()

    def write(self, table: pa.Table) -> None:
        columns = [
            _as_list(column.combine_chunks()) if pa.types.is_fixed_size_list(column.type) else column
            for column in table.columns
        ]
        part = pa.table(columns, schema=self._schema)
        self._group.append(part)
        self._group_bytes += part.nbytes
        if self._group_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._group:
            self._writer.write_table(pa.concat_tables(self._group))
        self._group, self._group_bytes = [], 0


def write_lance(selection: Selection, path: Path) -> None:
    """A Lance dataset; vectors are of fixed size, so that Lance can index them."""
    import lance

    failures: list[Exception] = []
    batches = pa.RecordBatchReader.from_batches(selection.schema, _batches(selection, failures))
    try:
        lance.write_dataset(batches, path)
    except OSError as error:
        raise (failures or [error])[0] from None


def write_datasets(selection: Selection, path: Path) -> None:
    """A folder for datasets.load_from_disk(); the description of the views is in its info."""
    import datasets

    with TemporaryDirectory(dir=path.parent, prefix=path.name) as folder:
        rows = Path(folder) / "rows.arrow"
        with pa.OSFile(str(rows), "wb") as file, pa.ipc.new_stream(file, selection.schema) as sink:
            for table in selection.tables():
                sink.write_table(table)
        info = datasets.DatasetInfo(description=selection.description)
        datasets.Dataset.from_file(str(rows), info=info).save_to_disk(path)


def _batches(selection: Selection, failures: list[Exception]) -> Iterator[pa.RecordBatch]:
    """Batches for a library that shows what goes wrong here as an error of its own: failures keeps ours."""
    try:
        for table in selection.tables():
            yield from table.to_batches()
    except (PlaitError, OSError) as error:
        failures.append(error)
        raise


def _as_list(vectors: Any) -> pa.Array:
    present_N = vectors.is_valid().to_numpy(zero_copy_only=False)
    ends_N = np.cumsum(present_N, dtype=np.int32) * vectors.type.list_size
    offsets = pa.array(np.concatenate([[0], ends_N]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, vectors.flatten(), mask=pa.array(~present_N))

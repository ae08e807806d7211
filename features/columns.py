"""Samples and views side by side: what the columns are called and how a shard's become one table."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from features.manifest import view_schema
from features.reading import ShardReader
from features.sample import SAMPLE_SCHEMA
from features.view import StoredView
from features.writing import vector_column


def column_name(view: str) -> str:
    """The column of a view: its name, with _embedding after it where a sample has a column of that name."""
    return f"{view}_embedding" if view.lower() in SAMPLE_SCHEMA.names else view


def view_fields(view: StoredView, *, dtype: str) -> list[pa.Field]:
    """The columns of a view: the embedding and, for sequences, <column>_start_s and <column>_end_s."""
    stored = view_schema(dim=view.dim, dtype=dtype, is_sequence=view.is_sequence)
    column = column_name(view.name)
    fields = [stored.field("embedding").with_name(column)]
    if view.is_sequence:
        fields += [stored.field(part).with_name(f"{column}_{part}") for part in ("start_s", "end_s")]
    return fields


def shard_table(reader: ShardReader, index: int, views: Sequence[str]) -> pa.Table:
    """A shard's samples with the columns of the views beside them, nothing copied."""
    samples, columns_of = reader.samples, reader.columns
    if not reader.keeps_all:
        samples, columns_of = reader.open_samples, reader.open_columns
    table = samples(index)
    for name in views:
        view = reader.view(name)
        columns = columns_of(name, index).columns[2:]
        for field, column in zip(view_fields(view, dtype=view.dtype), columns, strict=True):
            table = table.append_column(field, column)
    return table


def chosen_tables(reader: ShardReader, views: Sequence[str], rows_N: np.ndarray | None) -> Iterator[pa.Table]:
    """What shard_table() gives of some rows, rising, or of all: a table for each shard that has any.

    A shard that is taken whole is not copied.
    """
    for index, (start, stop) in enumerate(pairwise(reader.starts)):
        if rows_N is None:
            yield shard_table(reader, index, views)
            continue
        chosen_N = rows_N[slice(*np.searchsorted(rows_N, [start, stop]))]
        if len(chosen_N):
            table = shard_table(reader, index, views)
            yield table if len(chosen_N) == table.num_rows else take_rows(table, chosen_N - start)


def empty_table(reader: ShardReader, views: Sequence[str]) -> pa.Table:
    """What shard_table() gives, without rows."""
    fields = [field for view in map(reader.view, views) for field in view_fields(view, dtype=view.dtype)]
    return pa.schema([*SAMPLE_SCHEMA, *fields]).empty_table()


def take_rows(table: pa.Table, offsets_N: np.ndarray) -> pa.Table:
    """The rows at the offsets. Vectors of null rows stay NaN, where Arrow's own take would make them zero."""
    columns = [
        _take_vectors(column.combine_chunks(), offsets_N)
        if pa.types.is_fixed_size_list(column.type)
        else column.take(pa.array(offsets_N))
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema)


def widen(column: pa.Array) -> pa.Array:
    """The vectors of a view's column as float32; several times faster than Arrow's cast. float32 is not copied."""
    if pa.types.is_list(column.type):
        lists: Any = column
        offsets = pa.array(lists.offsets.to_numpy() if len(lists) else [0], pa.int32())
        return pa.ListArray.from_arrays(offsets, widen(lists.values), mask=lists.is_null())
    values_ND, absent_N = _vectors(column)
    return vector_column(values_ND.astype(np.float32, copy=False), absent_N)


def _take_vectors(column: pa.Array, offsets_N: np.ndarray) -> pa.Array:
    values_ND, absent_N = _vectors(column)
    return vector_column(values_ND[offsets_N], absent_N[offsets_N])


def _vectors(column: Any) -> tuple[np.ndarray, np.ndarray]:
    dim = column.type.list_size
    values_ND = column.values.to_numpy().reshape(-1, dim)[column.offset : column.offset + len(column)]
    return values_ND, column.is_null().to_numpy(zero_copy_only=False)

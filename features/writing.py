"""Writing the store's shards: rows become one record batch, and the batch becomes a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.errors import ShardError
from features.sample import SAMPLE_SCHEMA
from features.shards import read_shard, replacing
from features.view import Dtype


def stored_vectors(vectors: np.ndarray, dtype: Dtype) -> np.ndarray:
    """The vectors as a view of this dtype keeps them.

    What float16 cannot hold becomes infinite: check np.isfinite on the result, not on what the encoder gave.
    """
    if vectors.dtype == dtype:
        return vectors
    with np.errstate(over="ignore"):
        return vectors.astype(dtype)


def view_batch(
    schema: pa.Schema,
    keys: Sequence[str],
    feature_keys: Sequence[str],
    vectors: Sequence[np.ndarray | None],
    times: Sequence[np.ndarray | None] = (),
) -> pa.RecordBatch:
    """The rows of one shard of a view as a record batch, absent embeddings null and their vectors NaN.

    schema: of view_schema(); vectors: [dim] a row or, for sequences, [vector, dim], None where absent; times: for
    sequences only, float64 [vector, (start, end)] a row in seconds, None where absent.
    Equal rows give equal bytes. Raises ValueError if the lengths or shapes do not agree.
    """
    is_sequence = "start_s" in schema.names
    lengths = {len(keys), len(feature_keys), len(vectors), *([len(times)] if is_sequence else [])}
    if len(lengths) > 1 or (times and not is_sequence):
        raise ValueError(
            f"{len(keys)} keys, {len(feature_keys)} feature keys, {len(vectors)} vectors and {len(times)} times: "
            "a row has one of each, and times only where the view is a sequence"
        )
    columns: list[pa.Array] = [pa.array(keys, pa.string()), pa.array(feature_keys, pa.string())]
    if is_sequence:
        columns += _sequence_columns(schema, vectors, times)
    else:
        columns.append(_pooled_column(schema, vectors))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def sample_batch(rows: pa.Table) -> pa.RecordBatch:
    """Rows with at least the columns of SAMPLE_SCHEMA as the record batch of a sample shard.

    Equal rows give equal bytes, wherever in a larger table they lie.
    """
    # A slice would be written with what lies beside it in the last byte of a bitmap; what is taken lies alone.
    taken = rows.select(SAMPLE_SCHEMA.names).take(np.arange(rows.num_rows)).cast(SAMPLE_SCHEMA).combine_chunks()
    return pa.RecordBatch.from_arrays([column.chunk(0) for column in taken.columns], schema=SAMPLE_SCHEMA)


def write_shard(path: Path, batch: pa.RecordBatch) -> None:
    """Write a shard as one record batch; it appears under its name only when it has been read back."""
    with replacing(path) as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, batch.schema) as sink:
            sink.write_batch(batch)
        num_rows = read_shard(temporary).num_rows
        if num_rows != batch.num_rows:
            raise ShardError(
                f"shard {path.name} reads back {num_rows} rows of {batch.num_rows}: is the disk sound? Run again"
            )


def vector_column(values_ND: np.ndarray, absent_N: np.ndarray | None = None) -> pa.Array:
    """An Arrow column of vectors over a contiguous array, which is not copied; rows where absent_N is true are null."""
    mask = None if absent_N is None else pa.array(absent_N)
    return pa.FixedSizeListArray.from_arrays(pa.array(values_ND.reshape(-1)), values_ND.shape[1], mask=mask)


def stored_rows(table: pa.Table, rows_N: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Present rows of a view's shard as they are stored: the vector [dim] and None or, of a sequence, the vectors
    [vector, dim] and their times, float64 [vector, (start, end)]."""
    column: Any = table.column("embedding").chunk(0)
    if "start_s" not in table.schema.names:
        values_ND = column.values.to_numpy().reshape(-1, column.type.list_size)
        return [(vector, None) for vector in values_ND[rows_N]]
    values_VD = column.values.values.to_numpy().reshape(-1, column.type.value_type.list_size)
    times_V2 = np.stack([table.column(name).chunk(0).values.to_numpy() for name in ("start_s", "end_s")], axis=1)
    offsets_N = column.offsets.to_numpy()
    spans = [slice(start, stop) for start, stop in zip(offsets_N[rows_N], offsets_N[rows_N + 1], strict=True)]
    return [(values_VD[span], times_V2[span]) for span in spans]


def _form(schema: pa.Schema) -> tuple[int, Dtype]:
    embedding = schema.field("embedding").type
    vector: Any = embedding.value_type if "start_s" in schema.names else embedding
    return vector.list_size, "float16" if pa.types.is_float16(vector.value_type) else "float32"


def _pooled_column(schema: pa.Schema, vectors: Sequence[np.ndarray | None]) -> pa.Array:
    dim, dtype = _form(schema)
    absent_N = np.array([vector is None for vector in vectors], dtype=bool)
    values_ND = np.full((len(vectors), dim), np.nan, dtype)
    present = [vector for vector in vectors if vector is not None]
    for shape in {vector.shape for vector in present}:
        _check_shape(shape, (dim,))
    if present:
        values_ND[~absent_N] = stored_vectors(np.concatenate(present).reshape(-1, dim), dtype)
    return vector_column(values_ND, absent_N)


def _sequence_columns(
    schema: pa.Schema, vectors: Sequence[np.ndarray | None], times: Sequence[np.ndarray | None]
) -> list[pa.Array]:
    dim, dtype = _form(schema)
    values, intervals = [np.empty((0, dim), dtype)], [np.empty((0, 2))]
    for sequence, times_T2 in zip(vectors, times, strict=True):
        if sequence is not None and times_T2 is not None:
            _check_shape(sequence.shape, (len(sequence), dim))
            _check_shape(times_T2.shape, (len(sequence), 2))
            values.append(stored_vectors(sequence, dtype))
            intervals.append(times_T2)
        elif sequence is not None or times_T2 is not None:
            raise ValueError("a sequence has both vectors and times, or neither")
    lengths_N = [0 if sequence is None else len(sequence) for sequence in vectors]
    offsets = pa.array(np.cumsum([0, *lengths_N], dtype=np.int32), pa.int32())
    absent = pa.array(np.array([sequence is None for sequence in vectors], dtype=bool))
    times_V2 = np.concatenate(intervals)
    embedding = vector_column(np.concatenate(values))
    children: list[pa.Array] = [embedding, pa.array(times_V2[:, 0]), pa.array(times_V2[:, 1])]
    return [pa.ListArray.from_arrays(offsets, child, mask=absent) for child in children]


def _check_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ValueError(f"an array has shape {shape}; the view's schema asks for {expected}")

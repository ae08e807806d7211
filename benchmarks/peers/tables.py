"""The rows as Arrow tables, for the libraries that take and give those."""

from typing import Any

import numpy as np
import pyarrow as pa

from rows import DIM, Rows, key, label

SCHEMA = pa.schema([("key", pa.string()), ("label", pa.int64()), pa.field("vector", pa.list_(pa.float16(), DIM))])


def table_blocks(rows: Rows) -> pa.RecordBatchReader:
    """All rows, a block at a time."""
    vectors = rows.vectors

    def batches() -> Any:
        for block in rows.blocks():
            values = pa.array(vectors[block.start : block.stop].reshape(-1))
            columns = [
                pa.array(map(key, block)),
                pa.array(map(label, block)),
                pa.FixedSizeListArray.from_arrays(values, DIM),
            ]
            yield pa.record_batch(columns, schema=SCHEMA)

    return pa.RecordBatchReader.from_batches(SCHEMA, batches())


def vectors_of(column: Any) -> np.ndarray:
    """[row, dim] of a column of vectors, copied only where it is in pieces."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy().reshape(-1, DIM)

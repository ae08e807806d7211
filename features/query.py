"""SQL over a store: DuckDB sees the samples with their views and the rejects, and nothing else of the machine."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from features.columns import shard_table, view_fields, widen
from features.errors import PlaitError, QueryError
from features.reading import ShardReader
from features.sample import SAMPLE_SCHEMA

_ROW = "__row"  # a sample's row, there for conditions only
_CLOSED = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
    "lock_configuration": True,
}


def run_query(reader: ShardReader, rejects: pa.Table, query: str) -> pa.Table:
    """Run one SELECT over the relations samples and rejects.

    Vectors arrive as float32, since DuckDB has no float16. Raises QueryError if the query cannot be parsed or does
    anything but read these relations.
    """
    return _run(query, SampleRelation(reader), rejects)


def select_rows(reader: ShardReader, rejects: pa.Table, where: str) -> np.ndarray:
    """int64 [row], rising: the rows of the samples for which an SQL condition holds."""
    query = f"select {_ROW} from samples where (\n{where}\n)"
    return np.unique(_run(query, SampleRelation(reader, with_row=True), rejects)[_ROW].to_numpy())


class SampleRelation(ds.InMemoryDataset):
    """The samples side by side with their views, as a data set that reads only the columns a query needs."""

    def __init__(self, reader: ShardReader, *, with_row: bool = False) -> None:
        self._fields = {name: view_fields(view, dtype="float32") for name, view in reader.views.items()}
        view_columns = [field for fields in self._fields.values() for field in fields]
        row = [pa.field(_ROW, pa.int64())] if with_row else []
        super().__init__(pa.schema([*SAMPLE_SCHEMA, *view_columns, *row]).empty_table())
        self._reader = reader
        self.failure: PlaitError | OSError | None = None

    def scanner(self, columns: list[str] | None = None, filter: ds.Expression | None = None) -> "_Scan":  # noqa: A002  # pyarrow's name
        """A scan of some columns, as DuckDB asks for it; a view that only the filter names is not widened."""
        wanted = self.schema.names if columns is None else columns
        schema = pa.schema([self.schema.field(name) for name in wanted])
        return _Scan(pa.RecordBatchReader.from_batches(schema, self._batches(schema, filter)))

    def _batches(self, schema: pa.Schema, condition: ds.Expression | None) -> Iterator[pa.RecordBatch]:
        named = f"{schema.names} {condition}"
        views = [name for name, fields in self._fields.items() if any(field.name in named for field in fields)]
        try:
            for index, start in enumerate(self._reader.starts[:-1]):
                table = shard_table(self._reader, index, views)
                if _ROW in self.schema.names:
                    table = table.append_column(_ROW, pa.array(np.arange(start, start + table.num_rows)))
                chosen = table.select(schema.names)
                if condition is not None:
                    chosen = chosen.filter(ds.dataset(table).to_table({"holds": condition})["holds"])
                chosen = chosen.combine_chunks()
                yield from pa.table([_as_declared(chosen[field.name], field) for field in schema], schema).to_batches()
        except (PlaitError, OSError) as error:
            self.failure = error
            raise


@dataclass(frozen=True)
class _Scan:
    """Stands for a pyarrow Scanner, whose threads would call back into Python even while it is shutting down."""

    reader: pa.RecordBatchReader

    def to_reader(self) -> pa.RecordBatchReader:
        return self.reader


def _as_declared(column: pa.ChunkedArray, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if column.type == field.type:
        return column
    return widen(column.chunk(0) if column.num_chunks else pa.array([], column.type))


def _run(query: str, samples: SampleRelation, rejects: pa.Table) -> pa.Table:
    """A connection of its own, so that nothing outlives the query."""
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        try:
            _check_reads_only(connection.extract_statements(query))
            connection.register("samples", samples)
            connection.register("rejects", rejects)
            found = connection.sql(query).to_arrow_table()
            return found.rename_columns(_distinct(found.column_names))
        except duckdb.Error as error:
            if samples.failure is not None:
                raise samples.failure from None
            message = " ".join(str(error).split("\n\nLINE ")[0].split())
            raise QueryError(f"{message}; the query was: {' '.join(query.split())}") from error


def _check_reads_only(statements: Sequence[Any]) -> None:
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        raise QueryError(
            f"a query is one SELECT over the relations samples and rejects, which are read only; "
            f"this is {' and then '.join(kinds) or 'empty'}"
        )


def _distinct(names: Sequence[str]) -> list[str]:
    """The names with _2, _3, ... after those that came before."""
    distinct: list[str] = []
    for name in names:
        tries = (name if count == 1 else f"{name}_{count}" for count in itertools.count(1))
        distinct.append(next(candidate for candidate in tries if candidate not in distinct))
    return distinct

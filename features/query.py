"""SQL over a store: DuckDB sees the samples with their views and the rejects, and nothing else of the machine."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.acero as acero
import pyarrow.dataset as ds
import pyarrow.fs as fs

from features.columns import shard_table, view_fields, widen
from features.errors import PlaitError, QueryError
from features.paging import paged, paged_zeros
from features.reading import ShardReader
from features.sample import REJECT_SCHEMA, SAMPLE_SCHEMA

Taken = TypeVar("Taken")

_ROW = "__row"  # a sample's row, there for conditions only
_ROWS_AT_ONCE = 1 << 16
_CLOSED = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
    "lock_configuration": True,
}


def run_query(reader: ShardReader, read_rejects: Callable[[], pa.Table], query: str) -> pa.Table:
    """Run one SELECT over the relations samples and rejects.

    read_rejects: gives the rejects; called only if the query asks for them, so that it works where they are damaged.
    Vectors arrive as float32, since DuckDB has no float16. Raises QueryError if the query cannot be parsed or does
    anything but read these relations.
    """
    found = _run(query, SampleRelation(reader), RejectRelation(read_rejects), duckdb.DuckDBPyRelation.to_arrow_table)
    return found.rename_columns(_distinct(found.column_names))


def select_rows(reader: ShardReader, read_rejects: Callable[[], pa.Table], where: str) -> np.ndarray:
    """int64 [row], rising: the rows of the samples for which an SQL condition holds; read_rejects as in run_query().

    Raises QueryError if it cannot be read, or is more than a condition.
    """
    _check_text(where)
    try:
        duckdb.SQLExpression(where)  # else a text as "true) union select (1" would be a query of its own below
    except duckdb.Error as error:
        raise QueryError(f"{_said(error)}; the condition was: {_in_line(where)}") from error
    query = f"select {_ROW} from samples where (\n{where}\n)"  # it may end in a comment
    is_chosen_N = paged_zeros(reader.num_rows, bool)

    def choose(found: duckdb.DuckDBPyRelation) -> None:
        for batch in found.to_arrow_reader(_ROWS_AT_ONCE):
            is_chosen_N[batch[_ROW].to_numpy()] = True

    _run(query, SampleRelation(reader, with_row=True), RejectRelation(read_rejects), choose)
    blocks = (start + np.flatnonzero(is_chosen_N[start:stop]) for start, stop in pairwise(reader.starts.tolist()))
    return paged(blocks, np.int64)


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
        views = [name for name in self._fields if self._is_wanted(name, schema, condition)]
        try:
            for index in self._shards(condition):
                table = shard_table(self._reader, index, views)
                if _ROW in self.schema.names:
                    start = self._reader.starts[index]
                    table = table.append_column(_ROW, pa.array(np.arange(start, start + table.num_rows)))
                chosen = table.select(schema.names)
                if condition is not None:
                    chosen = chosen.filter(_evaluate(condition, table))
                if chosen.num_rows:
                    chosen = chosen.combine_chunks()
                    columns = [_as_declared(chosen[field.name].chunk(0), field) for field in schema]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)
        except (PlaitError, OSError) as error:
            self.failure = error
            raise

    def _is_wanted(self, view: str, schema: pa.Schema, condition: ds.Expression | None) -> bool:
        """Whether a column of the view is among those of the schema, or the condition cannot do without it."""
        names = {field.name for field in self._fields[view]}
        if condition is None or not names.isdisjoint(schema.names):
            return not names.isdisjoint(schema.names)
        try:
            ds.dataset(self.schema.empty_table().drop_columns(names)).scanner(filter=condition)
        except pa.ArrowInvalid:
            return True
        return False

    def _shards(self, condition: ds.Expression | None) -> list[int]:
        """The shards in which the condition may hold, judged by their first and last keys."""
        shards = self._reader.shards
        if condition is None or "key" not in str(condition):
            return list(range(len(shards)))
        key, files, local = ds.field("key"), ds.IpcFileFormat(), fs.LocalFileSystem()
        fragments = [  # stand for the shards, by number: none is opened
            files.make_fragment(str(index), local, (key >= shard.first_key) & (key <= shard.last_key))
            for index, shard in enumerate(shards)
        ]
        pruned = ds.FileSystemDataset(fragments, self.schema, files).get_fragments(condition)
        return [int(fragment.path) for fragment in pruned]


class RejectRelation(ds.InMemoryDataset):
    """The rejects, as a data set that is read only when a query asks for it."""

    def __init__(self, read: Callable[[], pa.Table]) -> None:
        super().__init__(REJECT_SCHEMA.empty_table())
        self._read = read
        self.failure: PlaitError | OSError | None = None

    def scanner(self, columns: list[str] | None = None, filter: ds.Expression | None = None) -> "_Scan":  # noqa: A002  # pyarrow's name
        """A scan of some columns, as DuckDB asks for it."""
        try:
            table = self._read()
        except (PlaitError, OSError) as error:
            self.failure = error
            raise
        chosen = table if filter is None else table.filter(_evaluate(filter, table))
        return _Scan(chosen.select(self.schema.names if columns is None else columns).to_reader())


@dataclass(frozen=True)
class _Scan:
    """Stands for a pyarrow Scanner, whose threads would call back into Python even while it is shutting down."""

    reader: pa.RecordBatchReader

    def to_reader(self) -> pa.RecordBatchReader:
        return self.reader


def _evaluate(condition: ds.Expression, table: pa.Table) -> pa.ChunkedArray:
    """bool [row]; a fifth of the time that a data set over the table takes."""
    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    holds = acero.Declaration("project", acero.ProjectNodeOptions([condition], ["holds"]), [source])
    return holds.to_table()["holds"]


def _as_declared(column: pa.Array, field: pa.Field) -> pa.Array:
    return column if column.type == field.type else widen(column)


def _run(
    query: str, samples: SampleRelation, rejects: RejectRelation, take: Callable[[duckdb.DuckDBPyRelation], Taken]
) -> Taken:
    """What take gives of the rows found. A connection of its own, so that nothing outlives the query."""
    _check_text(query)
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        try:
            _check_reads_only(connection.extract_statements(query))
            connection.register("samples", samples)
            connection.register("rejects", rejects)
            return take(connection.sql(query))
        except (duckdb.Error, OSError) as error:  # the latter where rows are read as they are found
            if failure := samples.failure or rejects.failure:
                raise failure from None
            raise QueryError(f"{_said(error)}; the query was: {_in_line(query)}") from error


def _said(error: duckdb.Error | OSError) -> str:
    text = _in_line(str(error).split("\n\nLINE ")[0])
    if "Table with name" in text:  # where DuckDB would propose one of its own
        return f"{text.split('!')[0]}: there are samples, which has a column a view, and rejects"
    return text


def _in_line(text: str) -> str:
    return " ".join(text.split())


def _check_text(text: str) -> None:
    """DuckDB takes no half of a surrogate pair, as the name of a file can hold one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"{text!a} has a character that UTF-8 cannot hold: {error.reason}") from error


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

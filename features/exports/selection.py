"""What is exported: the chosen samples with their views, a shard at a time."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from features.columns import chosen_tables, empty_table
from features.keys import texts
from features.view import StoredView

if TYPE_CHECKING:
    from features.store import Store

_DESCRIBED = ("rev", "input", "encoder", "pooling", "dtype", "dim", "code_version", "weights_digest")


class Selection:
    """Samples of a store with a column a view, as Store.table() gives them, without holding them in memory."""

    def __init__(self, store: "Store", views: Iterable[str], *, split: str | None, where: str | None) -> None:
        """Raises StoreError for an unknown view or split, QueryError for a condition that cannot be read."""
        self._reader = store.reader
        self._rows_N = store.rows(split=split, where=where)
        self._split, self._where = split, where
        self.views: list[StoredView] = [store.reader.view(name) for name in texts(views, "views")]

    def __len__(self) -> int:
        return len(self._rows_N)

    @property
    def description(self) -> str:
        """JSON: what was chosen, and for each view what tells its version."""
        views = {view.name: {name: getattr(view, name) for name in _DESCRIBED} for view in self.views}
        return json.dumps({"split": self._split, "where": self._where, "views": views}, sort_keys=True)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the tables; its metadata has the description under "plait"."""
        columns = empty_table(self._reader, self._names).schema
        return columns.with_metadata({"plait": self.description})

    @property
    def _names(self) -> list[str]:
        return [view.name for view in self.views]

    def tables(self) -> Iterator[pa.Table]:
        """The samples of each shard that has any, in key order, each column in one piece."""
        schema: Any = self.schema
        for table in chosen_tables(self._reader, self._names, self._rows_N):
            yield table.combine_chunks().cast(schema)

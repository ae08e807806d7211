"""Parquet with DuckDB: one file as DuckDB itself writes it, asked in SQL."""

from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import torch

from peers import NotOffered, Peer
from peers.tables import SCHEMA, table_blocks, vectors_of
from rows import BATCH_SIZE, key

_ROW_GROUP_ROWS = 122_880  # DuckDB's default


class DuckDBParquet(Peer):
    """By key, in any order. DuckDB has no float16 and gives float32. It has no loader: a shuffle is an ORDER BY."""

    def write(self) -> None:
        # Arrow writes it, for DuckDB cannot write float16.
        with pq.ParquetWriter(self.folder / "rows.parquet", SCHEMA, use_dictionary=["key", "label"]) as writer:
            writer.write_table(table_blocks(self.rows).read_all(), row_group_size=_ROW_GROUP_ROWS)

    def open(self) -> None:
        self.connection = duckdb.connect()
        self.connection.execute(f"create view stored as from read_parquet('{self.folder / 'rows.parquet'}')")
        self.connection.execute("set preserve_insertion_order = false")  # its advice for speed; no order is asked for

    def address(self, places_N: np.ndarray) -> list[str]:
        return [key(place) for place in places_N.tolist()]

    def get(self, address: list[str]) -> np.ndarray:
        marks = ", ".join("?" * len(address))
        found = self.connection.execute(f"select vector from stored where key in ({marks})", address)
        return vectors_of(found.to_arrow_table()["vector"])

    def scan(self) -> Iterator[np.ndarray]:
        for batch in self.connection.execute("select vector from stored").to_arrow_reader(8192):
            yield vectors_of(batch["vector"])

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        if num_workers:
            raise NotOffered("DuckDB has no loader for workers")
        query = f"select vector, label from stored order by hash(key, {epoch})"
        for batch in self.connection.execute(query).to_arrow_reader(BATCH_SIZE):
            yield torch.from_numpy(vectors_of(batch["vector"])), torch.from_numpy(batch["label"].to_numpy())

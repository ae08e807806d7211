"""Feast: features in its SQLite online store, and beside it the Parquet file of its offline store."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32

from peers import NotOffered, Peer
from peers.tables import table_blocks, vectors_of
from rows import key

_SETTINGS = """project: rows
provider: local
registry: registry.db
online_store:
    type: sqlite
    path: online_store.db
offline_store:
    type: file
entity_key_serialization_version: 3
"""
_WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
_ASKED = datetime(2026, 1, 2, tzinfo=UTC)
_JOINED_ROWS = 20_000
_FEATURE = "rows:vector"


class FeastSQLite(Peer):
    """By key, a list of Python floats a row. A scan is a point-in-time join, of some keys only, so that it ends in
    seconds; Feast reads its source whole for it. It has no float16."""

    def write(self) -> None:
        (self.folder / "feature_store.yaml").write_text(_SETTINGS)
        schema = pa.schema(
            [("key", pa.string()), ("event_timestamp", pa.timestamp("us", "UTC")), ("vector", pa.list_(pa.float32()))]
        )
        with pq.ParquetWriter(self.folder / "rows.parquet", schema) as writer:
            for batch in table_blocks(self.rows):
                writer.write_table(_with_time(batch, schema))
        sample = Entity(name="sample", join_keys=["key"], value_type=ValueType.STRING)
        source = FileSource(path="rows.parquet", timestamp_field="event_timestamp")
        view = FeatureView(
            name="rows",
            entities=[sample],
            ttl=timedelta(0),
            schema=[Field(name="vector", dtype=Array(Float32))],
            source=source,
        )
        store = FeatureStore(repo_path=str(self.folder))
        store.apply([sample, view])
        # materialize() would hold all rows in memory as Python objects.
        for batch in table_blocks(self.rows):
            store.write_to_online_store("rows", _with_time(batch, schema).to_pandas())

    def open(self) -> None:
        self.store = FeatureStore(repo_path=str(self.folder))

    def address(self, places_N: np.ndarray) -> list[dict[str, str]]:
        return [{"key": key(place)} for place in places_N.tolist()]

    def get(self, address: list[dict[str, str]]) -> np.ndarray:
        found = self.store.get_online_features(features=[_FEATURE], entity_rows=address).to_dict()
        return np.array(found["vector"], np.float32)

    def scan(self) -> Iterator[np.ndarray]:
        keys = list(map(key, self.rows.places[:_JOINED_ROWS]))
        entities = pd.DataFrame({"key": keys, "event_timestamp": [_ASKED] * len(keys)})
        yield vectors_of(
            self.store.get_historical_features(entity_df=entities, features=[_FEATURE]).to_arrow()["vector"]
        )

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        raise NotOffered("Feast has no loader for training")


def _with_time(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    vectors = vectors_of(batch["vector"]).astype(np.float32)
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
    return pa.table([batch["key"], pa.array([_WRITTEN] * len(vectors), schema.field(1).type), lists], schema=schema)

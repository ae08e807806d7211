"""A Feast repository: a Parquet source a view, and the file that declares the entity, the sources and the views."""

import json
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.columns import view_fields, widen
from features.exports.selection import Selection
from features.exports.writers import ParquetSink
from features.sample import SAMPLE_SCHEMA

SAMPLES = "samples"  # the feature view of what is known of a sample besides its embeddings
_UNTYPED = ("words",)  # Feast has no type for a list of intervals
TIME_COLUMN = "event_timestamp"  # Feast's own name for it
DEFINITIONS_FILE = "plait_features.py"  # not features.py: Feast imports it by its name

_SETTINGS = """project: plait
provider: local
registry: data/registry.db
online_store:
    type: sqlite
    path: data/online_store.db
offline_store:
    type: file
entity_key_serialization_version: 3
"""

_DEFINITIONS = '''"""Features that Plait exported: 'feast apply' in this folder registers them."""

from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bool, Float32, Float64, Int32, String

sample = Entity(name="sample", join_keys=["key"], value_type=ValueType.STRING)


def view(name: str, tags: dict, types: dict) -> FeatureView:
    """A feature view of that name over its Parquet file; its values do not expire."""
    return FeatureView(
        name=name,
        entities=[sample],
        ttl=timedelta(0),
        schema=[Field(name=feature, dtype=dtype) for feature, dtype in types.items()],
        source=FileSource(name=name, path=f"data/{name}.parquet", timestamp_field="event_timestamp"),
        tags=tags,
    )


'''


def write_feast(selection: Selection, folder: Path, *, time: datetime) -> None:
    """A folder in which 'feast apply' registers the features.

    Feast has no float16, so the vectors are float32; words with their times are left out. Each view is a source of its
    own, since Feast reads a source whole; all rows carry the time.
    """
    (folder / "data").mkdir(parents=True)
    sources = {SAMPLES: [field for field in SAMPLE_SCHEMA if field.name not in ("key", *_UNTYPED)]}
    for view in selection.views:
        sources[view.name] = view_fields(view, dtype="float32")
    _write_sources(selection, folder, {name: _source_schema(fields) for name, fields in sources.items()}, time)
    (folder / "feature_store.yaml").write_text(_SETTINGS)
    (folder / DEFINITIONS_FILE).write_text(_definitions(selection, sources))


def _source_schema(fields: list[pa.Field]) -> pa.Schema:
    return pa.schema([SAMPLE_SCHEMA.field("key"), pa.field(TIME_COLUMN, pa.timestamp("us", "UTC")), *fields])


def _write_sources(selection: Selection, folder: Path, schemas: dict[str, pa.Schema], time: datetime) -> None:
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(ParquetSink(folder / "data" / f"{name}.parquet", schema))
            for name, schema in schemas.items()
        }
        for table in selection.tables():
            timed = table.append_column(TIME_COLUMN, pa.array([time] * len(table), pa.timestamp("us", "UTC")))
            for name, schema in schemas.items():
                writers[name].write(_widened(timed.select(schema.names), schema))


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        column if column.type == field.type else widen(column.combine_chunks())
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _definitions(selection: Selection, sources: dict[str, list[pa.Field]]) -> str:
    tags = {view.name: {"rev": view.rev, "encoder": view.encoder} for view in selection.views}
    lines = [
        f"{name}_view = view({json.dumps(name)}, {json.dumps(tags.get(name, {}))}, {{{_types(fields)}}})\n"
        for name, fields in sources.items()
    ]
    return _DEFINITIONS + "".join(lines)


def _types(fields: list[pa.Field]) -> str:
    return ", ".join(f"{json.dumps(field.name)}: {_feast_type(field.type)}" for field in fields)


def _feast_type(kind: Any) -> str:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"Array({_feast_type(kind.value_type)})"
    return {"string": "String", "bool": "Bool", "int32": "Int32", "float": "Float32", "double": "Float64"}[str(kind)]

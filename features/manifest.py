"""The manifest: what a version of the feature store consists of."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.errors import StoreError
from features.shards import Shard, write_json
from features.view import StoredView

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
SAMPLES_FOLDER = "samples"
REJECTS_FILE = "rejects.parquet"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The shards in key order, the views over them, and the settings of the steps that made them."""

    shards: tuple[Shard, ...]
    views: dict[str, StoredView]
    steps: dict[str, Any]

    @property
    def num_rows(self) -> int:
        return sum(shard.num_rows for shard in self.shards)

    def save(self, folder: Path) -> None:
        content = {
            "format_version": FORMAT_VERSION,
            "shards": [shard.to_json() for shard in self.shards],
            "views": {name: asdict(view) for name, view in self.views.items()},
            "steps": self.steps,
        }
        write_json(folder / MANIFEST_FILE, content)


def load_manifest(folder: Path) -> Manifest:
    """Read a store's manifest. Raises StoreError if there is none or a newer Plait wrote it."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise StoreError(f"{folder} holds no {MANIFEST_FILE}, so it is no feature store: run 'dvc repro embed'")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise StoreError(f"{path} is no JSON ({error}): restore it with 'dvc checkout {folder}'") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format {found}; this Plait reads format {FORMAT_VERSION}: install the matching one"
        )
    return Manifest(
        shards=tuple(Shard(**shard) for shard in content["shards"]),
        views={name: StoredView(**view) for name, view in content["views"].items()},
        steps=content["steps"],
    )


def view_schema(*, dim: int, dtype: str, is_sequence: bool) -> pa.Schema:
    """Schema of a view's shards.

    embedding is one vector a sample, or one a frame with the frame's interval in start_s and end_s (seconds from the
    start of the sample). An absent embedding is null, and its vector NaN, so that a plain memory map shows it too.
    """
    vector = pa.list_(pa.float16() if dtype == "float16" else pa.float32(), dim)
    fields = [pa.field("key", pa.string(), nullable=False), pa.field("feature_key", pa.string(), nullable=False)]
    if not is_sequence:
        return pa.schema([*fields, pa.field("embedding", vector)])
    times = pa.list_(pa.float64())
    return pa.schema(
        [*fields, pa.field("embedding", pa.list_(vector)), pa.field("start_s", times), pa.field("end_s", times)]
    )

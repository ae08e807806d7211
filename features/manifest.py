"""The manifest: what a version of the feature store consists of."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.errors import StoreError
from features.rev import DIGEST_CHARS, digest_bytes
from features.shards import Shard, json_text, replacing
from features.view import StoredView

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
SAMPLES_FOLDER = "samples"
REJECTS_FILE = "rejects.parquet"  # of a stage; a store's name holds a digest, so that versions do not share it

_NO_DIGEST = "0" * DIGEST_CHARS  # stands where the digest will be, while the text is digested


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The shards in key order, the views over them, and the settings of the steps that made them."""

    shards: tuple[Shard, ...]
    views: dict[str, StoredView]
    steps: dict[str, Any]
    rejects: str  # file of the rejects table

    @property
    def num_rows(self) -> int:
        return sum(shard.num_rows for shard in self.shards)

    def save(self, folder: Path, name: str = MANIFEST_FILE) -> None:
        """Write it into the folder, whole or not at all."""
        content = {
            "digest": _NO_DIGEST,  # of this very text: it tells when a byte of it was changed
            "format_version": FORMAT_VERSION,
            "rejects": self.rejects,
            "shards": [shard.to_json() for shard in self.shards],
            "views": {name: asdict(view) for name, view in self.views.items()},
            "steps": self.steps,
        }
        text = json_text(content)
        with replacing(folder / name) as temporary:
            temporary.write_bytes(text.replace(_NO_DIGEST.encode(), digest_bytes(text).encode(), 1))


def parse_manifest(text: bytes, folder: Path) -> Manifest:
    """A store's manifest from its text; folder: what messages name.

    Raises StoreError if another format wrote it, or it is not the text that was written.
    """
    path = folder / MANIFEST_FILE
    try:
        content = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{path} is no JSON ({error}): restore it with 'dvc checkout {folder}'") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(found, int) and found < FORMAT_VERSION:
        raise StoreError(f"{path} has the older format {found}: remove {folder} and run 'dvc repro embed'")
    if found != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format {found}; this Plait reads format {FORMAT_VERSION}: install the matching one"
        )
    digest = str(content.get("digest"))
    if digest_bytes(text.replace(digest.encode(errors="replace"), _NO_DIGEST.encode(), 1)) != digest:
        raise StoreError(f"{path} is damaged or was edited: restore it with 'dvc checkout {folder}'")
    return Manifest(
        shards=tuple(Shard(**shard) for shard in content["shards"]),
        views={name: StoredView(**view) for name, view in content["views"].items()},
        steps=content["steps"],
        rejects=content["rejects"],
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

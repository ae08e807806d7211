"""Embed: run each view's encoder over the samples it has not seen, and publish the feature store."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from features.encoders.base import Encoder
from features.encoders.catalogue import make_encoder
from features.errors import EncoderError, StageError
from features.files import publish_manifest
from features.manifest import MANIFEST_FILE, REJECTS_FILE, SAMPLES_FOLDER, Manifest, parse_manifest
from features.rev import digest_file, digest_json, feature_key
from features.sample import SAMPLE_SCHEMA
from features.shards import (
    Shard,
    cut_shards,
    describe_shard,
    read_shard,
    shard_file,
    shard_name,
    shard_writer,
    write_json,
)
from features.view import StoredView, View
from pipelines.code import stage_code
from pipelines.inventory import read_inventory
from pipelines.job import Reject, ShardRecord, ShardTask, remove_work, run_job
from pipelines.params import BeamParams, EmbedParams
from pipelines.stage import check_ratio, load_rejects, load_stage, say_outcome, write_rejects
from pipelines.view_worker import EncodeShard, ShardRows

RECORDS_FILE = "records.json"  # what embed itself must know of finished shards; readers need only the manifest
_NEW_MANIFEST = ".manifest.new"


@dataclass(frozen=True)
class PlannedView:
    """A view with what is known before any encoder runs: its rev, and the feature key of every sample."""

    view: View
    encoder: Encoder
    rev: str
    definition: dict[str, Any]
    feature_keys: list[str]


def embed(params: EmbedParams, before: Sequence[Path], folder: Path, beam: BeamParams) -> None:
    """Bring the feature store in folder up to date with the samples in the folders before.

    A row whose feature key the published store holds is copied from it, all others are encoded. Raises EncoderError
    before any work if a view cannot be computed here.
    """
    device = choose_device(params.device)
    inventory = read_inventory(before)
    if inventory.num_rows == 0:
        raise StageError(f"no sample came through to embed: see the reasons in {before[-1] / REJECTS_FILE}")
    spans = cut_shards(inventory.column("key").to_pylist(), params.shard_samples)
    planned = [
        plan_view(View(name=name, **view.model_dump()), inventory, device) for name, view in params.views.items()
    ]
    shards = [_write_samples(inventory.slice(span.start, len(span)), folder) for span in spans]
    known = _known_records(folder)
    stored, records = {}, {}
    for plan in planned:
        name = plan.view.name
        tasks = _tasks(plan, inventory, spans, folder)
        worker = EncodeShard(plan.view, plan.encoder, device)
        records[name] = run_job(worker, tasks, known=known.get(name, {}), params=beam, label=f"embed {name}")
        stored[name] = _stored_view(plan, records[name], folder)
    rejects = [reject for view in records.values() for record in view for reject in record.rejects]
    check_ratio("embed", rejects, inventory.num_rows, params.max_reject_ratio)
    steps: dict[str, Any] = {"embed": {"shard_samples": params.shard_samples}}
    for stage in before:
        steps |= load_stage(stage).steps
    all_rejects = [*load_rejects(before[-1]), *rejects]
    rejects_file = _write_rejects(folder, all_rejects)
    _publish(folder, Manifest(shards=tuple(shards), views=stored, steps=steps, rejects=rejects_file), records)
    say_outcome("embed", num_in=inventory.num_rows, num_out=inventory.num_rows, rejects=rejects)


def choose_device(wanted: str) -> str:
    """The device to encode on: CUDA where there is one, unless the CPU is asked for.

    Raises EncoderError if CUDA is demanded and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EncoderError("embed.device is 'cuda', but torch sees no CUDA device: set it to 'auto' or 'cpu'")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def plan_view(view: View, inventory: pa.Table, device: str) -> PlannedView:
    """The view with the feature keys that its rows must have."""
    encoder = make_encoder(view)
    # The device is part of the rev: a GPU rounds otherwise, so its rows are other bytes.
    definition = {**encoder.definition(), "device": device, "worker": stage_code("pipelines.view_worker")}
    rev = view.rev(definition)
    digests = inventory.column(f"digest_{view.input}").to_pylist()
    return PlannedView(view, encoder, rev, definition, [feature_key(rev, digest) for digest in digests])


def _write_samples(rows: pa.Table, folder: Path) -> Shard:
    """The shard of the sample table, kept if it is there already."""
    samples = rows.select(SAMPLE_SCHEMA.names).to_pylist()
    name = shard_name(samples[0]["key"])
    path = folder / SAMPLES_FOLDER / shard_file(name, digest_json(samples))
    if not path.exists():
        with shard_writer(path, SAMPLE_SCHEMA) as writer:
            for sample in samples:
                writer.append(sample)
    return describe_shard(name, path)


def _tasks(plan: PlannedView, inventory: pa.Table, spans: Sequence[range], folder: Path) -> list[ShardTask]:
    view_folder = (folder / plan.view.name).resolve()
    stored = _stored_rows(folder, plan)
    keys, paths, rows = (inventory.column(name).to_pylist() for name in ("key", "path", "row"))
    tasks = []
    for span in spans:
        part = slice(span.start, span.stop)
        feature_keys = plan.feature_keys[part]
        fingerprint = digest_json([plan.rev, keys[part], feature_keys])
        name = shard_name(keys[span.start])
        inputs = ShardRows(
            keys=keys[part],
            feature_keys=feature_keys,
            media=list(zip(paths[part], rows[part], strict=True)),
            stored=[stored.get(key) for key in feature_keys],
        )
        file = shard_file(name, fingerprint)
        tasks.append(ShardTask(name, str(view_folder), file, fingerprint, len(span), inputs))
    return tasks


def _stored_rows(folder: Path, plan: PlannedView) -> dict[str, tuple[str, int]]:
    """Feature key -> file and row of the published store, for a view of the same rev."""
    if not (folder / MANIFEST_FILE).exists():
        return {}
    found: dict[str, tuple[str, int]] = {}
    for stored in parse_manifest(
        (folder / MANIFEST_FILE).read_bytes(), folder
    ).views.values():  # a renamed view keeps its rows
        if stored.rev == plan.rev:
            for file in stored.files.values():
                path = (folder / stored.name / file).resolve()
                if not path.exists():  # somebody removed it: its rows are encoded again
                    continue
                table = read_shard(path)
                present = table.column("embedding").is_valid().to_pylist()
                for row, key in enumerate(table.column("feature_key").to_pylist()):
                    if present[row]:
                        found[key] = (str(path), row)
    return found


def _stored_view(plan: PlannedView, records: Sequence[ShardRecord], folder: Path) -> StoredView:
    view = plan.view
    shards = [record.shard for record in records]
    tables = [read_shard(folder / view.name / shard.file) for shard in shards]
    return StoredView(
        name=view.name,
        rev=plan.rev,
        input=view.input,
        encoder=view.encoder,
        pooling=view.pooling,
        dtype=view.dtype,
        dim=_dim(tables[0].schema, view),
        code_version=view.code_version,
        weights_digest=plan.definition["weights_digest"],
        definition=plan.definition,
        files={shard.name: shard.file for shard in shards},
        digests={shard.name: shard.digest for shard in shards},
        num_present=sum(table.num_rows - table.column("embedding").null_count for table in tables),
    )


def _dim(schema: pa.Schema, view: View) -> int:
    vector = schema.field("embedding").type
    return int(vector.value_type.list_size if view.pooling == "sequence" else vector.list_size)


def _known_records(folder: Path) -> dict[str, dict[str, ShardRecord]]:
    path = folder / RECORDS_FILE
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    views = {view: [ShardRecord.from_json(record) for record in records] for view, records in content.items()}
    return {view: {record.shard.file: record for record in records} for view, records in views.items()}


def _write_rejects(folder: Path, rejects: Sequence[Reject]) -> str:
    """The rejects table under a name of its own, so that readers of the version before keep theirs."""
    temporary = folder / ".rejects"
    write_rejects(temporary, rejects)
    name = shard_file("rejects", digest_file(temporary), ".parquet")
    os.replace(temporary, folder / name)
    return name


def _publish(folder: Path, manifest: Manifest, records: dict[str, list[ShardRecord]]) -> None:
    """Make the version visible, the manifest last; then remove the files that no view of it needs."""
    write_json(folder / RECORDS_FILE, {name: [asdict(record) for record in view] for name, view in records.items()})
    for view in manifest.views:
        remove_work(folder / view)
    manifest.save(folder, _NEW_MANIFEST)
    keep = {RECORDS_FILE, manifest.rejects}
    keep |= {f"{SAMPLES_FOLDER}/{shard.file}" for shard in manifest.shards}
    keep |= {f"{view.name}/{file}" for view in manifest.views.values() for file in view.files.values()}
    publish_manifest(folder, folder / _NEW_MANIFEST, keep=keep)

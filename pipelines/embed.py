"""Embed: run each view's encoder over the samples it has not seen, and publish the feature store."""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.compact import Shards
from features.encoders.catalogue import make_encoder
from features.encoders.running import check_device
from features.errors import EncoderError, StageError
from features.files import publish_manifest
from features.manifest import REJECTS_FILE, SAMPLES_FOLDER, Manifest
from features.rev import digest_file
from features.sample import SAMPLE_SCHEMA
from features.shards import Shard, cut_shards, read_shard, shard_file, shard_name
from features.view import StoredView, View
from features.writing import sample_batch, write_shard
from pipelines.accounts import num_halvings, say_account
from pipelines.fingerprints import fingerprint_spans
from pipelines.ingest import read_raw
from pipelines.inventory import SOURCE_COLUMNS, read_inventory
from pipelines.job import Reject, ShardRecord, is_finished, remove_work, run_job
from pipelines.lock import writing
from pipelines.params import BeamParams, EmbedParams
from pipelines.published import Published, read_published
from pipelines.reduced_views import ReducedView, check_reduced, define_reduced, embed_reduced
from pipelines.stage import check_ratio, load_rejects, load_stage, say_outcome, write_rejects
from pipelines.view_params import ReducedViewParams, ViewParams
from pipelines.view_plan import DefinedView, ViewPlan, define_view, plan_view
from pipelines.view_worker import EncodeShard

_NEW_MANIFEST = ".manifest.new"
# Texts come in many lengths, and a batch takes one: the rows of so many shards fill the batches of rare ones, too. They
# are little in memory, unlike images and sounds, which have few shapes.
_TEXT_SHARDS_AT_ONCE = 32
_SHARDS_A_GPU = 4  # so that there are batches for it while a shard is written and the next one opened
_CUDA_CAVEAT = (
    "computed on CUDA: batches have fixed shapes, so bytes should repeat on one model of GPU with one version of each "
    "library, which is not proven, if it has memory to spare, for with little cuDNN takes other kernels; another GPU, "
    "whose rev is the same, may round otherwise"
)
_HALVED = "memory did not suffice for whole batches, so some were divided by"


def embed(params: EmbedParams, before: Sequence[Path], folder: Path, beam: BeamParams, *, ingest: Path) -> None:
    """Bring the feature store in folder up to date with the samples in the folders before.

    A row whose feature key the published store holds is kept or copied, all others are encoded. ingest: the folder
    that tells what the raw files are called. Raises EncoderError, or ReductionError as far as it can be known, before
    any work if a view cannot be computed here.
    """
    embed_views(define_views(params), params, before, folder, beam, ingest=ingest)


def embed_views(
    defined: Sequence[DefinedView | ReducedView],
    params: EmbedParams,
    before: Sequence[Path],
    folder: Path,
    beam: BeamParams,
    *,
    ingest: Path,
) -> None:
    """Do what embed() does, for views that are defined already; a reduced view comes after the one it is made from."""
    with writing(folder):
        inventory = read_inventory(before, read_raw(ingest, SOURCE_COLUMNS))
        if inventory.num_rows == 0:
            raise StageError(f"no sample came through to embed: see the reasons in {before[-1] / REJECTS_FILE}")
        spans = cut_inventory(inventory, params.shard_samples)
        published = read_published(folder)
        for view in defined:
            if isinstance(view, ReducedView):
                check_reduced(view, inventory, published)
        shards = _write_samples(inventory, spans, published)
        views: dict[str, StoredView] = {}
        rejects = []
        for view in defined:
            if isinstance(view, ReducedView):
                base = views[view.base.view.name]
                stored, rejected = embed_reduced(view, base, inventory, spans, published, beam)
            else:
                stored, rejected = _embed_view(view, inventory, spans, published, beam)
            views[view.view.name] = stored
            rejects += rejected
        check_ratio("embed", rejects, inventory.num_rows, params.max_reject_ratio)
        steps: dict[str, Any] = {"embed": {"shard_samples": params.shard_samples}}
        for stage in before:
            steps |= load_stage(stage).steps
        rejects_file = _write_rejects(folder, [*load_rejects(before[-1]), *rejects])
        _publish(folder, Manifest(shards=Shards.of(shards), views=views, steps=steps, rejects=rejects_file))
    say_outcome("embed", num_in=inventory.num_rows, num_out=inventory.num_rows, rejects=rejects)


def define_views(params: EmbedParams, *, is_device_needed: bool = True) -> list[DefinedView | ReducedView]:
    """The declared views with their revs, the reduced ones last. Raises EncoderError if one cannot be computed here.

    is_device_needed: whether a demanded CUDA device that is not there is such a reason.
    """
    device = choose_device(params.device) if is_device_needed or params.device == "auto" else params.device
    encoded: dict[str, DefinedView] = {}
    for name, declared in params.views.items():
        if isinstance(declared, ViewParams):
            view = View(name=name, **declared.model_dump())
            check_device(view, device)
            encoded[name] = define_view(view, make_encoder(view), device)
    reduced = [
        define_reduced(name, encoded[declared.view], declared.reduce, declared.dtype)
        for name, declared in params.views.items()
        if isinstance(declared, ReducedViewParams)
    ]
    return [*encoded.values(), *reduced]


def choose_device(wanted: str) -> str:
    """The device to encode on: CUDA where there is one, unless the CPU is asked for.

    Raises EncoderError if CUDA is demanded and there is none.
    """
    if wanted == "cpu":
        return "cpu"
    has_cuda = _has_cuda()
    if wanted == "cuda" and not has_cuda:
        raise EncoderError("embed.device is 'cuda', but torch sees no CUDA device: set it to 'auto' or 'cpu'")
    return "cuda" if has_cuda else "cpu"


def _has_cuda() -> bool:
    """Whether torch can use CUDA. Without NVIDIA's driver it cannot, and seconds of importing it are saved."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def cut_inventory(inventory: pa.Table, shard_samples: int) -> list[range]:
    """The shards as stretches of the inventory: a function of its keys alone."""
    return cut_shards(inventory.column("key").to_pylist(), shard_samples)


def name_samples(inventory: pa.Table, spans: Sequence[range]) -> list[Shard]:
    """The shards of the sample table, their digests not known yet."""
    prints = fingerprint_spans("samples", inventory.select(SAMPLE_SCHEMA.names), spans)
    shards = []
    for span, fingerprint in zip(spans, prints, strict=True):
        first, last = (inventory.column("key")[row].as_py() for row in (span.start, span.stop - 1))
        name = shard_name(first)
        shards.append(Shard(name, shard_file(name, fingerprint), len(span), first, last, digest=""))
    return shards


def _write_samples(inventory: pa.Table, spans: Sequence[range], published: Published) -> list[Shard]:
    """The shards of the sample table; those that stand are kept."""
    standing = published.sample_shards()
    shards = []
    for span, shard in zip(spans, name_samples(inventory, spans), strict=True):
        if shard.file not in standing:
            path = published.folder / SAMPLES_FOLDER / shard.file
            write_shard(path, sample_batch(inventory.slice(span.start, len(span))))
            standing[shard.file] = replace(shard, digest=digest_file(path))
        shards.append(standing[shard.file])
    return shards


def _embed_view(
    defined: DefinedView, inventory: pa.Table, spans: Sequence[range], published: Published, beam: BeamParams
) -> tuple[StoredView, list[Reject]]:
    """Bring a view with an encoder up to date; gives what could not be encoded, too."""
    plan = plan_view(defined, inventory, spans, published)
    made, records = _run_plan(plan, beam)
    rejects = [*plan.rejects, *(reject for record in records for reject in record.rejects)]
    num_inputs = inventory.num_rows - inventory.column(f"digest_{defined.view.input}").null_count
    stored = _stored_view(plan, made, published.folder, num_present=num_inputs - len(rejects))
    return _with_caveat(stored, num_halvings(records), published), rejects


def _run_plan(plan: ViewPlan, beam: BeamParams) -> tuple[dict[str, Shard], list[ShardRecord]]:
    """All shards of the view by file, and the records of those that were made."""
    if not plan.tasks:
        return plan.kept, []
    defined = plan.defined
    digest = defined.definition["weights_digest"]
    worker = EncodeShard(
        defined.view, defined.encoder, defined.device, defined.rev, digest, dim=plan.dim, threads=beam.threads
    )
    at_once = _shards_at_once(defined, beam.threads)
    todo = {task.file for task in plan.tasks if not is_finished(task)}
    records = run_job(worker, plan.tasks, known={}, params=beam, label=f"embed {defined.view.name}", at_once=at_once)
    say_account(plan, [record for record in records if record.shard.file in todo])
    return plan.kept | {record.shard.file: record.shard for record in records}, records


def _shards_at_once(defined: DefinedView, threads: int) -> int:
    """How many shards are at work together, so that their samples fill the batches of the model."""
    at_once = threads
    if defined.view.input == "text" and defined.view.pooling != "sequence":
        at_once = max(at_once, _TEXT_SHARDS_AT_ONCE)
    if defined.device == "cuda":
        import torch  # which whoever chose this device has imported

        at_once = max(at_once, _SHARDS_A_GPU * torch.cuda.device_count())
    return at_once


def _stored_view(plan: ViewPlan, shards: dict[str, Shard], folder: Path, *, num_present: int) -> StoredView:
    view, definition = plan.defined.view, plan.defined.definition
    caveat = definition.get("nondeterministic") or (_CUDA_CAVEAT if plan.defined.device == "cuda" else None)
    return StoredView(
        name=view.name,
        rev=plan.defined.rev,
        input=view.input,
        encoder=view.encoder,
        pooling=view.pooling,
        dtype=view.dtype,
        dim=_dim(read_shard(folder / view.name / plan.files[0], ["embedding"]).schema, view),
        code_version=view.code_version,
        weights_digest=definition["weights_digest"],
        definition=definition,
        files={shards[file].name: file for file in plan.files},
        digests={shards[file].name: shards[file].digest for file in plan.files},
        num_present=num_present,
        options=view.options,
        deterministic=caveat is None,
        caveat=caveat,
    )


def _with_caveat(view: StoredView, num_halvings: int, published: Published) -> StoredView:
    """The view with what its rows, old and new, owe to smaller batches than it declares."""
    before = published.views.get(view.name)
    halved = ""
    if num_halvings:
        halved = f"{_HALVED} {1 << num_halvings}"
    elif before is not None and before.rev == view.rev:
        halved = "".join((before.caveat or "").partition(_HALVED)[1:])
    if not halved:
        return view
    return replace(view, deterministic=False, caveat="; ".join(filter(None, (view.caveat, halved))))


def _dim(schema: pa.Schema, view: View) -> int:
    vector = schema.field("embedding").type
    return int(vector.value_type.list_size if view.pooling == "sequence" else vector.list_size)


def _write_rejects(folder: Path, rejects: Sequence[Reject]) -> str:
    """The rejects table under a name of its own, so that readers of the version before keep theirs."""
    temporary = folder / ".rejects"
    write_rejects(temporary, rejects)
    name = shard_file("rejects", digest_file(temporary), ".parquet")
    os.replace(temporary, folder / name)
    return name


def _publish(folder: Path, manifest: Manifest) -> None:
    """Make the version visible, the manifest last; then remove the files that no view of it needs."""
    for view in manifest.views:
        remove_work(folder / view)
    manifest.save(folder, _NEW_MANIFEST)
    publish_manifest(folder, folder / _NEW_MANIFEST)

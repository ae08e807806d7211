"""Reduced views: fitted on the training samples of the view that they are made from, and computed from its rows."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.encoders.pooling import pooled_dim
from features.errors import ReductionError, ShardError
from features.reductions import FittedStep, Step, fit_batch, fit_steps, parse_steps, reduced_dim
from features.rev import digest_file, library_versions
from features.shards import shard_file
from features.view import Dtype, StoredView, View
from features.writing import write_shard
from pipelines.code import stage_code
from pipelines.fingerprints import fingerprint_spans
from pipelines.job import Reject, ShardTask, run_job
from pipelines.params import BeamParams
from pipelines.published import Published
from pipelines.reduced_worker import BaseShard, ReduceShard, training_rows
from pipelines.view_plan import DefinedView, name_shards, rejects_of_kept


@dataclass(frozen=True)
class ReducedView:
    """A declared view that no encoder makes. definition: all that decides its rows but the fit and its base's rows."""

    view: View
    base: DefinedView
    steps: tuple[Step, ...]
    definition: dict[str, Any]

    @property
    def rev(self) -> str:
        """Hash of what is declared. That of the stored rows holds the fit too, which is known once the base is."""
        return self.view.rev(self.definition)

    @property
    def is_fitted(self) -> bool:
        """Whether any step looks at training samples."""
        return any(step.is_fitted for step in self.steps)

    def rev_with(self, fit: str | None) -> str:
        """The rev of rows that were reduced by a fit, which is named by its digest; None is none that is known."""
        return self.view.rev({**self.definition, "fit": fit})


def define_reduced(name: str, base: DefinedView, declared: Sequence[Any], dtype: Dtype) -> ReducedView:
    """The view that these steps make of a view with an encoder."""
    steps = parse_steps(declared)
    named = [str(step) for step in steps]
    view = View(name=name, input=base.view.input, encoder=", ".join(named), pooling=base.view.pooling, dtype=dtype)
    code = stage_code("pipelines.reduced_worker")
    libraries = library_versions({"numpy"})
    return ReducedView(view, base, steps, {"base": base.rev, "steps": named, "code": code, "libraries": libraries})


def check_reduced(reduced: ReducedView, inventory: pa.Table, published: Published) -> None:
    """Raise ReductionError for what tells before any work that the view cannot be fitted."""
    view, base = reduced.view, reduced.base
    stored, encoder_dim = published.views.get(base.view.name), base.encoder.about.get("dim")
    if stored and stored.rev == base.rev:
        _reduced_dim(reduced, stored.dim)
    elif encoder_dim:
        _reduced_dim(reduced, pooled_dim(encoder_dim, base.view.pooling))
    num_train = len(_training_digests(reduced, inventory))
    if num_train == 0 and reduced.is_fitted:
        raise ReductionError(
            f"view {view.name!r} is fitted on the samples of split 'train', and none of them has {view.input}: give "
            "that split some, or leave the view away"
        )
    asked = max((step.dim for step in reduced.steps if step.kind == "pca"), default=0)
    if asked >= num_train and asked and view.pooling != "sequence":
        raise ReductionError(
            f"view {view.name!r}: pca to {asked}, but {num_train} training samples vary in {num_train - 1} directions "
            "at most: ask for no more than that"
        )


def foresee_rev(reduced: ReducedView, inventory: pa.Table, published: Published) -> tuple[dict[str, Any], str]:
    """The definition that embed will store for these samples, and the rev, which is a new one if it will fit anew."""
    fitted_on = _fitted_on(reduced, inventory)
    return _definition(reduced, fitted_on), reduced.rev_with(_standing_fit(reduced, fitted_on, published))


def embed_reduced(
    reduced: ReducedView,
    base: StoredView,
    inventory: pa.Table,
    spans: Sequence[range],
    published: Published,
    beam: BeamParams,
) -> tuple[StoredView, list[Reject]]:
    """Bring the view up to date with its base, whose files lie in the folder of the published version already.

    Raises ReductionError if it cannot be fitted.
    """
    view, folder = reduced.view, published.folder.resolve()
    dim = _reduced_dim(reduced, base.dim)
    shards = [BaseShard(str(folder / base.name / file), base.digests[name]) for name, file in base.files.items()]
    fitted_on = _fitted_on(reduced, inventory)
    standing_fit = _standing_fit(reduced, fitted_on, published)
    fit = standing_fit or _write_fit(folder / view.name, _fit(reduced, shards, inventory, spans))
    rev = reduced.rev_with(fit)
    rows = inventory.select(["key", f"digest_{view.source}"])
    names, prints, files = name_shards(rev, rows, spans)
    made = published.view_shards(view.name)
    todo = [index for index, file in enumerate(files) if file not in made]
    rejects = rejects_of_kept(view.name, rows.column("key"), spans, todo, published)
    tasks = [
        ShardTask(names[index], str(folder / view.name), files[index], prints[index], len(spans[index]), shards[index])
        for index in todo
    ]
    worker = ReduceShard(view, rev, base.rev, dim, str(folder / view.name / shard_file("fit", fit)))
    for record in run_job(worker, tasks, known={}, params=beam, label=f"reduce {view.name}"):
        made[record.shard.file] = record.shard
        rejects += record.rejects
    how = "fit kept" if standing_fit else "fitted anew"
    sys.stderr.write(f"embed {view.name}: {how}, {len(todo)} of {len(files)} files written from view {base.name}\n")
    stored = replace(
        base,
        **{name: getattr(view, name) for name in ("name", "encoder", "dtype", "code_version", "options")},
        rev=rev,
        dim=dim,
        definition=_definition(reduced, fitted_on),
        files=dict(zip(names, files, strict=True)),
        digests={name: made[file].digest for name, file in zip(names, files, strict=True)},
        num_present=base.num_present - len(rejects),
        base=base.name,
        fit=fit,
    )
    return stored, rejects


def _definition(reduced: ReducedView, fitted_on: str | None) -> dict[str, Any]:
    return {**reduced.definition, "fitted_on": fitted_on}


def _reduced_dim(reduced: ReducedView, dim: int) -> int:
    try:
        return reduced_dim(reduced.steps, dim)
    except ReductionError as error:
        raise ReductionError(f"view {reduced.view.name!r}: {error}") from error


def _trains(inventory: pa.Table) -> pa.ChunkedArray:
    """Which samples a fit is made on: those of the training split, without augmented copies."""
    return pc.and_(pc.equal(inventory.column("split"), "train"), pc.equal(inventory.column("variant"), 0))


def _training_digests(reduced: ReducedView, inventory: pa.Table) -> pa.ChunkedArray:
    return inventory.column(f"digest_{reduced.view.source}").filter(_trains(inventory)).drop_null()


def _fitted_on(reduced: ReducedView, inventory: pa.Table) -> str | None:
    """Digest of what the training samples, in key order, give the encoder; None if no step is fitted."""
    if not reduced.is_fitted:
        return None
    digests = _training_digests(reduced, inventory)
    return fingerprint_spans("fit", pa.table({"digest": digests}), [range(len(digests))])[0]


def _standing_fit(reduced: ReducedView, fitted_on: str | None, published: Published) -> str | None:
    """The published fit, if its file is there and fitting would give the same again.

    Raises ShardError if the file is another one.
    """
    stored = published.views.get(reduced.view.name)
    if stored is None or stored.fit_file is None or stored.definition != _definition(reduced, fitted_on):
        return None
    path = published.folder / stored.name / stored.fit_file
    if not path.exists():
        return None
    if digest_file(path) != stored.fit:
        raise ShardError(f"{path} is not what the manifest says: delete it and run 'dvc repro'")
    return stored.fit


def _fit(
    reduced: ReducedView, shards: Sequence[BaseShard], inventory: pa.Table, spans: Sequence[range]
) -> tuple[FittedStep, ...]:
    train_N = np.asarray(_trains(inventory), bool)
    trains = [train_N[span.start : span.stop] for span in spans]
    try:
        return fit_steps(reduced.steps, lambda: training_rows(shards, trains))
    except ReductionError as error:
        raise ReductionError(f"view {reduced.view.name!r}: {error}") from error


def _write_fit(folder: Path, fitted: Sequence[FittedStep]) -> str:
    """Write the file of a fit, and give its digest, which is in its name."""
    temporary = folder / ".fit"
    write_shard(temporary, fit_batch(fitted))
    digest = digest_file(temporary)
    os.replace(temporary, folder / shard_file("fit", digest))
    return digest

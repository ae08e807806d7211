"""Plan: what a run would do, from the source to the views, and why. It writes nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from features.manifest import MANIFEST_FILE
from pipelines.embed import cut_inventory, define_views, name_samples
from pipelines.inventory import read_inventory
from pipelines.params import Params
from pipelines.published import read_published
from pipelines.raw import RAW_SCHEMA
from pipelines.reduced_views import ReducedView, check_reduced
from pipelines.source_changes import SourceChanges, read_source, source_changes
from pipelines.stage_changes import StageChanges, stage_changes
from pipelines.view_changes import ViewChanges, open_view, removed_view, view_changes
from pipelines.view_plan import DefinedView


@dataclass(frozen=True)
class StoreChanges:
    """What embed would do for the samples that are known; num_shards: files of the sample table that it would write."""

    views: list[ViewChanges]
    num_samples: int
    num_shards: int


@dataclass(frozen=True)
class RunPlan:
    """What a run would do. Samples of open recordings are known once the stages before embed have run: what they are
    now is num_open_samples, and they are in no number of the views."""

    source: SourceChanges
    stages: list[StageChanges]
    store: StoreChanges
    open_recordings: list[str]
    num_open_samples: int

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        stages, views = self.stages, self.store.views
        is_unchanged = all(stage.is_unchanged for stage in stages) and all(view.is_unchanged for view in views)
        return self.source.is_unchanged and is_unchanged and not self.store.num_shards


def plan_run(params: Params, data: Path) -> RunPlan:
    """The plan for the folder of all stages' outputs. Lists and digests the source as ingest would.

    Raises the errors that the stages would raise before any work.
    """
    defined = define_views(params.embed)
    rows, num_rejected = read_source(params.ingest)
    source = source_changes(rows, num_rejected, data / "ingest")
    stages = stage_changes(params, data, rows)
    clean, align, augment = stages
    folders = [folder for folder in (data / "align", data / "augment") if (folder / MANIFEST_FILE).is_file()]
    # Files that moved are told as a run would note them.
    inventory = read_inventory(folders, pa.Table.from_pylist(rows, schema=RAW_SCHEMA))
    touched = clean.touched | align.touched
    renamed = {recording.key_before for recording in source.renamed if recording.key != recording.key_before}
    stays = pc.and_(
        pc.is_in(inventory.column("recording"), value_set=_texts({row["key"] for row in rows} | renamed)),
        pc.less_equal(inventory.column("variant"), params.augment.copies),
    )
    is_open = pc.or_(
        pc.is_in(inventory.column("recording"), value_set=_texts(touched | renamed)),
        pc.and_(
            pc.greater(inventory.column("variant"), 0),
            pc.is_in(inventory.column("recording"), value_set=_texts(augment.touched)),
        ),
    )
    open_rows = inventory.filter(pc.and_(stays, is_open)).combine_chunks()
    known = inventory.filter(pc.and_not(stays, is_open)).combine_chunks()
    trains = {row["key"] for row in rows if row["split"] == "train"}
    is_train_known = not (trains & touched or "train" in open_rows.column("split").unique().to_pylist())
    store = plan_store(
        defined, known, data / "features", params.embed.shard_samples, open_rows, is_train_known=is_train_known
    )
    return RunPlan(source, stages, store, sorted(touched | augment.touched), open_rows.num_rows)


def plan_store(
    defined: Sequence[DefinedView | ReducedView],
    known: pa.Table,
    folder: Path,
    shard_samples: int,
    open_rows: pa.Table,
    *,
    is_train_known: bool = True,
) -> StoreChanges:
    """What embed would do with these samples of the inventory; the open ones are only counted.

    is_train_known: whether no more training samples than the known ones will be there to fit on.
    """
    published = read_published(folder)
    spans = cut_inventory(known, shard_samples)
    views = []
    for view in defined:
        if isinstance(view, ReducedView) and view.is_fitted and not is_train_known:
            views.append(open_view(view, pa.concat_tables([known, open_rows])))
            continue
        if isinstance(view, ReducedView):
            check_reduced(view, known, published)
        views.append(view_changes(view, known, spans, published, open_rows))
    dropped = published.views.keys() - {view.view.name for view in defined}
    views += [removed_view(name, published) for name in sorted(dropped)]
    standing = published.sample_shards()
    num_shards = sum(shard.file not in standing for shard in name_samples(known, spans))
    return StoreChanges(views, known.num_rows, num_shards)


def _texts(values: Iterable[str]) -> pa.Array:
    return pa.array(list(values), pa.string())

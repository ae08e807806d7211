"""What clean, align and augment would make again, and which recordings may come out of them otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.manifest import MANIFEST_FILE
from features.shards import read_shard
from pipelines.align import align_settings
from pipelines.augment import augment_settings, augment_tasks
from pipelines.clean import clean_settings, clean_tasks
from pipelines.differences import Difference, describe, differences
from pipelines.job import ShardTask, is_published
from pipelines.params import Params
from pipelines.source_changes import Recording
from pipelines.stage import StageManifest, known_records, load_stage, tasks_per_shard

_NAMES = {"code": "code", "libraries": "library", "": "parameter"}
_HELD = ("key", "source_digest", "group", "split", "label", "meta", "intervals")


@dataclass(frozen=True)
class StageChanges:
    """Shards of a stage: those that are kept, those that are certainly made again, and those that depend on what the
    stages before make of theirs."""

    stage: str
    num_kept: int
    num_again: int
    num_open: int
    has_run: bool
    differences: tuple[Difference, ...]  # of the stage's settings, which make all of its shards again
    touched: frozenset[str]  # recordings in the shards that are made again, as far as they may come out otherwise
    kept: StageManifest

    @property
    def is_unchanged(self) -> bool:
        return not (self.num_again or self.num_open)

    def reasons(self) -> list[str]:
        """Why shards are made again; a line each."""
        if not self.has_run:
            return ["has not run yet"]
        lines = describe(self.differences, _NAMES)
        if self.num_again and not lines:
            lines.append(f"{'recordings' if self.stage == 'clean' else 'samples'} in these shards are others")
        return lines


def stage_changes(params: Params, data: Path, rows: Sequence[Recording]) -> list[StageChanges]:
    """The changes of clean, align and augment, in this order, once ingest has listed these recordings."""
    clean = _clean_changes(params, data / "clean", rows)
    settings = align_settings(params.align)
    tasks = tasks_per_shard(clean.kept, data / "clean", data / "align", settings)
    align = _changes("align", tasks, settings, data / "align", num_open=clean.num_again)
    tasks = augment_tasks(params.augment, align.kept, data / "align", data / "augment")
    num_open = align.num_again + align.num_open if params.augment.copies else 0
    augment = _changes("augment", tasks, augment_settings(params.augment), data / "augment", num_open=num_open)
    return [clean, align, augment]


def _changes(
    stage: str, tasks: Sequence[ShardTask], settings: dict[str, Any], folder: Path, *, num_open: int
) -> StageChanges:
    """The changes of a stage whose tasks name shards of the stage before."""
    known, manifest = known_records(folder), _manifest(folder)
    again = [task for task in tasks if not is_published(task, known)]
    touched = {key for task in again for key in _column(Path(task.inputs.path), "recording")}
    kept = tuple(known[task.file] for task in tasks if is_published(task, known))
    return StageChanges(
        stage=stage,
        num_kept=len(kept),
        num_again=len(again),
        num_open=num_open,
        has_run=manifest is not None,
        differences=tuple(differences(manifest.steps[stage], settings)) if manifest else (),
        touched=frozenset(touched),
        kept=StageManifest(stage, {}, kept),
    )


def _clean_changes(params: Params, folder: Path, rows: Sequence[Recording]) -> StageChanges:
    """As above; of a shard with other recordings only those are touched of which another thing is known now."""
    tasks, known, manifest = clean_tasks(rows, params.clean, folder), known_records(folder), _manifest(folder)
    kept = {task.file for task in tasks if is_published(task, known)}
    found = differences(manifest.steps["clean"], clean_settings(params.clean)) if manifest else []
    held: dict[str, Recording] = {}
    for file in known.keys() - kept if not found else ():
        if (folder / file).exists():
            held |= {row["key"]: row for row in read_shard(folder / file, _HELD).to_pylist()}
    touched = {
        row["key"]
        for task in tasks
        if task.file not in kept
        for row in task.inputs
        if held.get(row["key"]) != (None if row["copy_of"] else {name: row[name] for name in _HELD})
    }
    records = tuple(known[task.file] for task in tasks if task.file in kept)
    return StageChanges(
        stage="clean",
        num_kept=len(kept),
        num_again=len(tasks) - len(kept),
        num_open=0,
        has_run=manifest is not None,
        differences=tuple(found),
        touched=frozenset(touched),
        kept=StageManifest("clean", {}, records),
    )


def _manifest(folder: Path) -> StageManifest | None:
    return load_stage(folder) if (folder / MANIFEST_FILE).is_file() else None


def _column(path: Path, name: str) -> list[str]:
    values: list[str] = read_shard(path, [name]).column(name).to_pylist()
    return values

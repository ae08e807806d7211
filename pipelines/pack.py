"""Pack: WebDataset shards for streaming training, with media, features and metadata side by side."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import features
from features.errors import StageError
from features.manifest import MANIFEST_FILE
from features.rev import digest_bytes, digest_file, digest_json, library_versions
from features.sample import MODALITIES, SPLITS, WORD
from features.shards import Shard, read_shard, replacing, write_json
from features.store import Store
from features.streaming import member_stem
from pipelines.card import CARD_FILE, write_card
from pipelines.code import stage_code
from pipelines.digests import check_media
from pipelines.inventory import read_inventory
from pipelines.job import WORK_FOLDER, ShardRecord, ShardTask, is_published, run_job
from pipelines.lock import writing
from pipelines.media.pack import flac_bytes, image_suffix, video_bytes
from pipelines.params import BeamParams, PackParams
from pipelines.progress import ShardProgress
from pipelines.stage import known_records, remove_unlisted

COUNTS_FILE = "counts.json"
_WORD = [field.name for field in WORD]


def pack(params: PackParams, before: Sequence[Path], store: Path, folder: Path, beam: BeamParams) -> None:
    """Write folder/<split>-<number>.tar over all samples of the store, their counts and their card."""
    opened = features.open(store)
    rows = _with_sources(read_inventory(before).to_pylist(), opened)
    settings = {
        **params.model_dump(),
        "code": stage_code(__name__, "features.reading"),
        "libraries": library_versions(["av", "numpy", "soundfile", "webdataset"]),
        "views": {name: view.rev for name, view in opened.manifest.views.items()},
    }
    tasks = _tasks(rows, params.shard_samples, folder, settings)
    with writing(folder):
        known = known_records(folder)
        kept = {task.file: known[task.file] for task in tasks if is_published(task, known)}
        # A tar's name does not tell its content, so a new one waits aside until all are made.
        aside = folder.resolve() / WORK_FOLDER / "tars"
        todo = [replace(task, folder=str(aside)) for task in tasks if task.file not in kept]
        made = run_job(PackShard(str(store.resolve())), todo, known={}, params=beam, label="pack")
        for record in made:
            os.replace(aside / record.shard.file, folder / record.shard.file)
            kept[record.shard.file] = record
        _publish(folder, [kept[task.file] for task in tasks], settings, rows, opened)


def _tasks(
    rows: Sequence[dict[str, Any]], shard_samples: int, folder: Path, settings: dict[str, Any]
) -> list[ShardTask]:
    tasks: list[ShardTask] = []
    for split in SPLITS:
        of_split = [row for row in rows if row["split"] == split]
        for number, start in enumerate(range(0, len(of_split), shard_samples)):
            chunk = of_split[start : start + shard_samples]
            fingerprint = digest_json([settings, [_without_place(row) for row in chunk]])
            file = f"{split}-{number:06d}.tar"
            media = [(row["path"], row["row"], row["source"]) for row in chunk]
            tasks.append(ShardTask(file[:-4], str(folder.resolve()), file, fingerprint, len(chunk), media))
    return tasks


def _with_sources(rows: list[dict[str, Any]], store: Store) -> list[dict[str, Any]]:
    """The samples with the URIs of their raw files, as the store has them. Raises StageError if it lacks a sample."""
    sources = dict(zip(store.keys, store.samples.column("source").to_pylist(), strict=True))
    if missing := [row["key"] for row in rows if row["key"] not in sources]:
        raise StageError(
            f"the feature store lacks {len(missing)} samples that are aligned, the first {missing[0]!r}: "
            "run 'dvc repro embed'"
        )
    return [{**row, "source": sources[row["key"]]} for row in rows]


def _without_place(row: dict[str, Any]) -> dict[str, Any]:
    """A sample as its digests identify it, wherever its media lie."""
    return {name: value for name, value in row.items() if name not in ("path", "row")}


def _publish(
    folder: Path,
    records: Sequence[ShardRecord],
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    store: Store,
) -> None:
    counts = {
        split: {
            "samples": sum(row["split"] == split for row in rows),
            "shards": sum(record.shard.file.startswith(f"{split}-") for record in records),
            **{
                modality: sum(row["split"] == split and row[f"has_{modality}"] for row in rows)
                for modality in MODALITIES
            },
        }
        for split in SPLITS
    }
    write_json(folder / COUNTS_FILE, counts)
    write_card(folder, store.views, [split for split in SPLITS if counts[split]["shards"]])
    content = {
        "stage": "pack",
        "steps": {"pack": settings},
        "store": digest_bytes(store.files.manifest),  # readers ask whether it is the version that they have
        "records": [record.to_json() for record in records],
    }
    write_json(folder / MANIFEST_FILE, content)
    remove_unlisted(folder, {record.shard.file for record in records} | {MANIFEST_FILE, COUNTS_FILE, CARD_FILE})


@dataclass(frozen=True)
class PackShard:
    """Writes one tar. Its bytes are a function of the samples: no clock, no user, no order of arrival."""

    store: str

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        import webdataset  # imports torch: not where there is nothing to pack

        store = features.open(self.store)
        keys = []
        with (
            replacing(task.path) as temporary,
            open(temporary, "wb") as file,
            webdataset.TarWriter(file, encoder=False, user="", group="", mtime=0) as tar,
        ):
            for path, row, source in task.inputs:
                sample = read_shard(Path(path)).slice(row, 1).to_pylist()[0]
                check_media(sample, MODALITIES, path)
                tar.write(packed_sample({**sample, "source": source}, _vectors(store, sample["key"])))
                keys.append(sample["key"])
                progress.add(1, 0)
        progress.report()
        shard = Shard(task.name, task.file, len(keys), keys[0], keys[-1], digest_file(task.path))
        return ShardRecord(shard, task.fingerprint, len(keys), ())


def _vectors(store: Store, key: str) -> dict[str, np.ndarray]:
    """The sample's embeddings by view, a sequence's intervals beside it, without those that are absent."""
    vectors: dict[str, np.ndarray] = {}
    for name, view in store.views.items():
        if view.is_sequence:
            sequence = store.get_sequences([key], name)[0]
            if sequence is not None:
                vectors[name], vectors[f"{name}_times_s"] = sequence.vectors_TD, sequence.times_T2
        else:
            vector = store.get([key], name)[0]
            if not np.isnan(vector).all():
                vectors[name] = vector
    return vectors


def packed_sample(sample: dict[str, Any], vectors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The members of one sample by extension."""
    members: dict[str, Any] = {"__key__": member_stem(sample["key"])}
    metadata = {name: sample[name] for name in ("key", "group", "split", "label", "variant", "source")}
    # Set apart from the sample: the media beside it are cut already, and begin at zero.
    metadata["timeline"] = {
        name: sample[name] for name in ("recording", "start_s", "end_s", "audio_start_s", "audio_drift_ppm")
    }
    words = sample["words"]
    metadata["timeline"]["words"] = words and [{name: word[name] for name in _WORD} for word in words]
    metadata["meta"] = json.loads(sample["meta"]) if sample["meta"] else None
    members["json"] = json.dumps(metadata, sort_keys=True, ensure_ascii=False).encode()
    if sample["text"] is not None:
        members["txt"] = sample["text"].encode()
    if sample["image"] is not None:
        members[image_suffix(sample["image"])] = sample["image"]
    if sample["audio"] is not None:
        members["flac"] = flac_bytes(sample["audio"], sample["audio_rate_hz"])
    if sample["frames"] is not None:
        times_s = np.array(sample["frame_times_s"]) - sample["start_s"]
        members["mp4"] = video_bytes(sample["frames"], times_s, sample["frames_end_s"] - sample["start_s"])
    for name, vector in vectors.items():
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(vector))
        members[f"{name}.npy"] = buffer.getvalue()
    return members

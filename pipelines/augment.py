"""Augment: seeded variants of each training sample; val and test are never touched."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.reasons import MediaError
from features.rev import digest_json, library_versions, seed_of
from features.sample import MEDIA_SCHEMA, MODALITIES, MediaRow
from features.shards import read_shard, shard_file
from pipelines.code import stage_code
from pipelines.digests import sample_digests
from pipelines.job import Reject, ShardTask
from pipelines.media.variants import reorder, vary_audio, vary_frames, vary_image, vary_order
from pipelines.params import AugmentParams, BeamParams
from pipelines.raw import VARIANT_MARK
from pipelines.stage import Outcome, ShardBefore, StageManifest, read_media_rows, run_stage


def augment(params: AugmentParams, before: Path, folder: Path, beam: BeamParams) -> None:
    """Write the variants of the training samples in the folder before; the originals stay where they are."""
    run_stage(
        "augment",
        Augment(params),
        lambda manifest: augment_tasks(params, manifest, before, folder),
        before=before,
        folder=folder,
        settings=augment_settings(params),
        max_reject_ratio=params.max_reject_ratio,
        beam=beam,
    )


def augment_settings(params: AugmentParams) -> dict[str, Any]:
    """All that decides what a shard of segments becomes besides its content."""
    return {
        **params.model_dump(exclude={"max_reject_ratio"}),
        "code": stage_code(__name__),
        "libraries": library_versions(["numpy", "opencv-python-headless", "pillow", "pyarrow"]),
    }


def augment_tasks(params: AugmentParams, manifest: StageManifest, before: Path, folder: Path) -> list[ShardTask]:
    """One task for each shard of the stage before that has training samples."""
    settings = augment_settings(params)
    tasks = []
    for shard in manifest.shards if params.copies else ():
        path = (before / shard.file).resolve()
        num_train = pc.sum(pc.equal(read_shard(path).column("split"), "train")).as_py() or 0
        if num_train:
            fingerprint = digest_json([settings, shard.digest])
            file, inputs = shard_file(shard.name, fingerprint), ShardBefore(str(path), shard.digest)
            tasks.append(ShardTask(shard.name, str(folder.resolve()), file, fingerprint, num_train, inputs))
    return tasks


def variant_key(key: str, copy: int) -> str:
    """The key of an augmented copy of a sample."""
    return f"{key}{VARIANT_MARK}{copy}"


@dataclass(frozen=True)
class Augment:
    """Makes the variants of one training sample.

    The random numbers are a function of seed, copy, modality and the sample's content, so that another name changes
    nothing. The content is that of all its modalities: segments that share a picture, or say the same word, still vary
    each in its own way. Samples that are the same in all of them have the same variants, as they are one sample to a
    model.
    """

    params: AugmentParams
    schema: ClassVar[pa.Schema] = MEDIA_SCHEMA

    def read(self, inputs: Any) -> Iterable[MediaRow]:
        path = inputs.check()
        splits = read_shard(path).column("split").to_pylist()
        return read_media_rows(path, [index for index, split in enumerate(splits) if split == "train"])

    def __call__(self, row: MediaRow) -> Outcome:
        rows: list[MediaRow] = []
        rejects: list[Reject] = []
        for copy in range(1, self.params.copies + 1):
            try:
                rows.append(self._variant(row, copy))
            except MediaError as error:
                rejects.append(Reject(variant_key(row["key"], copy), "augment", error.reason, "sample", str(error)))
        return rows, rejects

    def _variant(self, row: MediaRow, copy: int) -> MediaRow:
        params = self.params
        varied = {**row, "key": variant_key(row["key"], copy), "variant": copy}
        if row["text"] is not None:
            rng = self._rng(row, copy, "text")
            order = vary_order(len(row["text"].split()), rng, drop=params.text_drop, swap=params.text_swap)
            varied["text"], varied["words"] = reorder(row["text"], row["words"], order)
        if row["image"] is not None:
            rng = self._rng(row, copy, "image")
            varied["image"] = vary_image(row["image"], rng, crop=params.image_crop, light=params.image_light)
        if row["audio"] is not None:
            rng = self._rng(row, copy, "audio")
            varied["audio"] = vary_audio(row["audio"], rng, gain_db=params.audio_gain_db, snr_db=params.audio_snr_db)
        if row["frames"] is not None:
            rng = self._rng(row, copy, "video")
            varied["frames"] = vary_frames(row["frames"], rng, crop=params.image_crop, light=params.image_light)
        return {**varied, "digests": sample_digests(varied)}

    def _rng(self, row: MediaRow, copy: int, modality: str) -> np.random.Generator:
        content = digest_json({modality: row["digests"][modality] for modality in MODALITIES})
        return np.random.Generator(np.random.Philox(seed_of(self.params.seed, content, str(copy), modality)))

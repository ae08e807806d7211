"""Packing: what a sample's metadata says, and which tars are written again."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import build_store
from shard_work import local_beam

from features.errors import StageError
from features.sample import MEDIA_SCHEMA, media_row
from features.shards import describe_shard, shard_writer
from pipelines.digests import sample_digests
from pipelines.job import ShardRecord
from pipelines.lock import writing
from pipelines.media.spans import span
from pipelines.pack import pack, packed_sample
from pipelines.params import PackParams
from pipelines.stage import publish_stage

KEYS = [f"rec{index}" for index in range(6)]


def store_of(folder: Path, keys: list[str] = KEYS, **fields: Any) -> Path:
    """A store of the keys; fields: of its samples."""
    shutil.rmtree(folder, ignore_errors=True)
    samples = [{"key": key, **fields} for key in keys]
    build_store(folder, samples, {"said": {"vectors": np.ones((len(keys), 4), np.float16), "input": "text"}})
    return folder


def run(segments: Path, store: Path, folder: Path) -> dict[str, bytes]:
    """Pack two samples a tar; the tars' bytes by name."""
    pack(PackParams(shard_samples=2), [segments], store, folder, local_beam())
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    """What align published: a text a key."""
    folder = tmp_path / "align"
    with shard_writer(folder / "shard.arrow", MEDIA_SCHEMA) as writer:
        for key in KEYS:
            row = media_row(
                key=key, recording=key, group=key, split="train", variant=0, text="hello", source_digest="0"
            )
            writer.append({**row, "digests": sample_digests(row)})
    record = ShardRecord(describe_shard("shard", folder / "shard.arrow"), "0", len(KEYS), ())
    publish_stage(folder, stage="align", settings={}, records=[record], before=folder / "none")
    return folder


def sources(tar: Path) -> list[str]:
    with tarfile.open(tar) as file:
        members = [file.extractfile(member) for member in file if member.name.endswith(".json")]
        return [json.load(member)["source"] for member in members if member]


def test_packed_metadata_names_the_raw_files_as_the_store_does(segments: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    before = run(segments, store_of(tmp_path / "features"), packed)
    assert sources(packed / "train-000000.tar") == ["rec0.mp4", "rec1.mp4"]
    assert run(segments, store_of(tmp_path / "features"), packed) == before
    assert run(segments, store_of(tmp_path / "features", source="moved.mp4"), packed) != before
    assert sources(packed / "train-000000.tar") == ["moved.mp4", "moved.mp4"]


def test_packed_metadata_has_the_words_with_their_times_alone() -> None:
    sample = {**media_row(key="a", words=[span(0.5, 1.0, text="so")]), "source": ""}
    timeline = json.loads(packed_sample(sample, {})["json"])["timeline"]
    assert timeline["words"] == [{"start_s": 0.5, "end_s": 1.0, "text": "so"}]
    assert json.loads(packed_sample({**sample, "words": None}, {})["json"])["timeline"]["words"] is None


def test_pack_says_that_the_store_lacks_a_sample(segments: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "features", KEYS[1:5])
    with pytest.raises(StageError, match="lacks 2 samples that are aligned, the first 'rec0': run 'dvc repro embed'"):
        run(segments, store, tmp_path / "packed")


def test_pack_leaves_tars_alone_that_another_run_writes(segments: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    with writing(packed), pytest.raises(StageError, match="packed is being written by process"):
        run(segments, store_of(tmp_path / "features"), packed)
    assert not packed.exists()


def test_the_code_behind_a_tar_is_what_reads_and_packs(segments: Path, tmp_path: Path) -> None:
    run(segments, store_of(tmp_path / "features"), tmp_path / "packed")

    code = json.loads((tmp_path / "packed" / "manifest.json").read_bytes())["steps"]["pack"]["code"]
    assert {"pipelines.pack", "pipelines.media.pack", "features.reading", "features.mapping"} <= code.keys()
    assert not {"features.query", "features.nearest", "features.diff"} & code.keys()

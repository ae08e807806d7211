"""Files of the stages that were damaged after they were published: nothing is made of them, and one line says so."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from corpus import NUM_RECORDINGS, run_after_ingest, small_params, write_corpus

from features.errors import ShardError, StageError
from features.manifest import MANIFEST_FILE, REJECTS_FILE
from features.shards import read_shard
from pipelines.align import align
from pipelines.augment import augment
from pipelines.ingest import RAW_MANIFEST, ingest, load_recordings
from pipelines.job import Reject
from pipelines.params import Params
from pipelines.source_changes import source_changes
from pipelines.stage import load_rejects, load_stage, write_rejects


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Path]:
    """A small corpus that has gone through augment."""
    root = tmp_path_factory.mktemp("damage")
    write_corpus(root / "recordings")
    params, data = small_params(root / "recordings"), root / "data"
    ingest(params.ingest, data / "ingest", params.beam)
    run_after_ingest(params, data)
    return params, data


def _flip(path: Path) -> None:
    """Change a bit of a picture or a frame, which leaves an Arrow file that can be read."""
    rows = read_shard(path).to_pylist()
    media = next(row["image"] or row["frames"][0] for row in rows if row["image"] or row["frames"])
    content = bytearray(path.read_bytes())
    content[content.index(media) + len(media) // 2] ^= 1
    path.write_bytes(content)
    assert read_shard(path).num_rows == len(rows)


def _align(params: Params, data: Path, folder: Path) -> None:
    align(params.align, data / "clean", folder, params.beam)


def _augment(params: Params, data: Path, folder: Path) -> None:
    augment(params.augment, data / "align", folder, params.beam)


@pytest.mark.parametrize(("before", "run"), [("clean", _align), ("align", _augment)])
def test_stages_take_nothing_from_shards_with_a_flipped_bit(
    made: tuple[Params, Path], before: str, run: Callable[[Params, Path, Path], None], tmp_path: Path
) -> None:
    """What came of them would have a fresh digest, and look sound."""
    params, data = made[0], shutil.copytree(made[1], tmp_path / "data")
    for shard in load_stage(data / before).shards:
        _flip(data / before / shard.file)

    with pytest.raises(StageError, match=r"\.arrow is not what the manifest says: delete it and run 'dvc repro'"):
        run(params, data, tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST_FILE).exists()


@pytest.mark.parametrize(
    "text", ['{"stage": "clean", ', '{"stage": "clean", "steps": {}}', '{"records": [{"shard": 1}]}']
)
def test_load_stage_names_a_manifest_that_it_cannot_read(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text)
    with pytest.raises(StageError, match=rf"{MANIFEST_FILE} is damaged or of another Plait .*: remove .* 'dvc repro'"):
        load_stage(tmp_path)


def test_load_rejects_names_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / REJECTS_FILE
    write_rejects(path, [Reject("a", "clean", "empty", "sample", "nothing")])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ShardError, match=r"rejects.parquet is no whole Parquet file"):
        load_rejects(tmp_path)


def test_load_recordings_names_a_damaged_manifest(made: tuple[Params, Path], tmp_path: Path) -> None:
    sound = made[1] / "ingest" / RAW_MANIFEST
    assert len(load_recordings(sound.parent)) == NUM_RECORDINGS + 1
    (tmp_path / RAW_MANIFEST).write_bytes(sound.read_bytes()[:100])
    for read in (load_recordings, partial(source_changes, [], 0)):
        with pytest.raises(
            StageError, match=r"manifest.parquet is no whole Parquet file .*: run 'dvc repro -f ingest'"
        ):
            read(tmp_path)

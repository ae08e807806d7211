"""Embed: what decides a view's rev, which rows are computed, and when nothing is published."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from shard_work import local_beam

import features
from features.errors import EncoderError, RejectRatioError, StageError
from features.manifest import MANIFEST_FILE
from features.reasons import Reason
from features.rev import digest_json
from features.sample import MEDIA_SCHEMA, MediaRow, media_row
from features.shards import describe_shard, read_shard, shard_writer
from features.view import View
from features.writing import write_view_shard
from pipelines.digests import sample_digests
from pipelines.embed import choose_device, embed, plan_view
from pipelines.inventory import INVENTORY_SCHEMA, read_inventory
from pipelines.job import ShardRecord
from pipelines.media.audio import to_pcm16
from pipelines.params import EmbedParams, ViewParams
from pipelines.stage import publish_stage

SOUND = {"sound": ViewParams(input="audio", encoder="logmel-mfcc")}
RATE_HZ = 8000


def sample(key: str, audio: bytes | None) -> MediaRow:
    row = media_row(
        key=key,
        recording=key,
        group=key,
        split="train",
        variant=0,
        source_digest="0",
        start_s=0.0,
        end_s=1.0,
        audio=audio,
        audio_rate_hz=RATE_HZ if audio is not None else None,
        audio_start_s=0.0 if audio is not None else None,
    )
    return {**row, "digests": sample_digests(row)}


def tone(hz: float) -> bytes:
    times_T = np.arange(RATE_HZ // 4) / RATE_HZ
    return to_pcm16((0.3 * np.sin(2 * np.pi * hz * times_T)).astype(np.float32))


def publish(folder: Path, rows: Sequence[MediaRow]) -> Path:
    """A stage's folder of one shard."""
    path = folder / "shard.arrow"
    with shard_writer(path, MEDIA_SCHEMA) as writer:
        for row in rows:
            writer.append(row)
    record = ShardRecord(describe_shard("shard", path), "0", len(rows), ())
    publish_stage(folder, stage="align", settings={}, records=[record], before=folder / "none")
    return folder


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    rows = [sample(f"rec{index}", tone(200 + 50 * index) if index % 4 else None) for index in range(8)]
    return publish(tmp_path / "align", rows)


def run(segments: Path, folder: Path, *, views: dict[str, ViewParams] = SOUND, shard_samples: int = 4) -> None:
    params = EmbedParams(device="cpu", shard_samples=shard_samples, views=views, max_reject_ratio=0.2)
    embed(params, [segments], folder, local_beam())


def mark_rows(folder: Path) -> None:
    """Change every stored vector of the view sound to ones, as no encoder would give them."""
    for file in features.open(folder).manifest.views["sound"].files.values():
        table = read_shard(folder / "sound" / file)
        batch = table.combine_chunks().to_batches()[0]
        dim = batch.schema.field("embedding").type.list_size
        ones = pa.FixedSizeListArray.from_arrays(
            pa.array(np.ones(len(batch) * dim, np.float16)), dim, mask=batch["embedding"].is_null()
        )
        write_view_shard(
            folder / "sound" / file, batch.set_column(2, batch.schema.field("embedding"), ones).cast(batch.schema)
        )


def test_embed_encodes_no_row_whose_feature_key_is_stored(segments: Path, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    run(segments, folder)
    mark_rows(folder)
    shutil.rmtree(segments)
    publish(segments, [sample(f"rec{index}", tone(200 + 50 * index) if index % 4 else None) for index in range(9)])
    run(segments, folder, shard_samples=16)
    store = features.open(folder)
    vectors = store.get(store.keys, "sound").astype(np.float32)

    assert [bool(np.isnan(vector).all()) for vector in vectors] == [index % 4 == 0 for index in range(9)]
    assert all((vectors[index] == 1).all() for index in range(8) if index % 4)


def test_embed_encodes_a_row_again_when_its_file_is_gone(segments: Path, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    run(segments, folder)
    before = {path: path.read_bytes() for path in (folder / "sound").iterdir()}
    next(iter(before)).unlink()
    run(segments, folder)

    assert {path: path.read_bytes() for path in (folder / "sound").iterdir()} == before


def test_embed_above_the_reject_ratio_publishes_nothing(segments: Path, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    run(segments, folder)
    before = (folder / MANIFEST_FILE).read_bytes()
    shutil.rmtree(segments)
    publish(segments, [sample(f"rec{index}", b"" if index < 3 else tone(300)) for index in range(8)])
    with pytest.raises(RejectRatioError, match=r"embed rejected 3 of 8 .*empty 3"):
        run(segments, folder)

    assert (folder / MANIFEST_FILE).read_bytes() == before
    assert len(features.open(folder).get(["rec1", "rec2"], "sound")) == 2


def test_embed_lists_its_rejects_beside_those_before_it_also_when_the_shard_is_kept(tmp_path: Path) -> None:
    rows = [sample(f"rec{index}", b"" if index == 3 else tone(300 + index)) for index in range(8)]
    segments, folder = publish(tmp_path / "align", rows), tmp_path / "features"
    for _ in range(2):
        run(segments, folder)
        (reject,) = features.open(folder).rejects.to_pylist()
        assert (reject["key"], reject["stage"], reject["reason"], reject["dropped"]) == (
            "rec3",
            "embed",
            Reason.EMPTY,
            "audio",
        )
    assert features.open(folder).views["sound"].num_present == 7


def test_embed_without_a_sample_says_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no sample came through"):
        run(publish(tmp_path / "align", []), tmp_path / "features")


def plan(view: View, digests: Sequence[str | None] = ("a", None, "a")) -> Any:
    columns: dict[str, list[Any]] = {name: [None] * len(digests) for name in INVENTORY_SCHEMA.names}
    columns |= {f"digest_{view.input}": list(digests)}
    return plan_view(view, pa.table(columns, schema=INVENTORY_SCHEMA), "cpu")


def test_a_feature_key_is_the_rev_and_the_digest_of_the_input() -> None:
    first = plan(View(name="sound", input="audio", encoder="logmel-mfcc"))
    renamed = plan(View(name="other", input="audio", encoder="logmel-mfcc"))
    pooled = plan(View(name="sound", input="audio", encoder="logmel-mfcc", pooling="max"))

    assert first.feature_keys[0] == first.feature_keys[2] != first.feature_keys[1]
    assert renamed.feature_keys == first.feature_keys
    assert not set(pooled.feature_keys) & set(first.feature_keys)


def test_a_rev_changes_with_the_bytes_of_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    view = View(name="image", input="image", encoder="timm:resnet18", options={"weights": str(weights)})
    revs = []
    for content in (b"one", b"other"):
        weights.write_bytes(content)
        revs.append(plan(view).rev)

    assert revs[0] != revs[1]


def test_a_rev_covers_device_code_and_libraries(segments: Path) -> None:
    view = View(name="sound", input="audio", encoder="logmel-mfcc")
    cpu, cuda = (plan_view(view, read_inventory([segments]), device) for device in ("cpu", "cuda"))

    assert cpu.rev != cuda.rev
    for part in ("code", "worker", "libraries", "batch_size"):
        assert view.rev({**cpu.definition, part: digest_json(part)}) != cpu.rev


def test_choose_device_takes_no_cuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (choose_device("auto"), choose_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(EncoderError, match="sees no CUDA device"):
        choose_device("cuda")

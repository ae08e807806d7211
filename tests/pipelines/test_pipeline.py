"""Every stage of media work over a small corpus: same input same bytes, and only what changed is made again."""

import gc
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import webdataset
from corpus import NUM_RECORDINGS, digests, run_to_pack, small_params, write_corpus

import features
from features.errors import EncoderError, RejectRatioError
from pipelines.clean import clean
from pipelines.embed import embed
from pipelines.ingest import ingest


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "recordings"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("made") / "data"
    run_to_pack(small_params(source), data)
    return data


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The published version, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "data"))


def test_all_samples_arrive_in_the_store_with_their_modalities(made: Path) -> None:
    store = features.open(made / "features")
    originals = store.sql("select * from samples where variant = 0").to_pylist()
    assert len(originals) == 2 * NUM_RECORDINGS + 1
    still = next(row for row in originals if row["key"] == "still")
    assert (still["has_audio"], still["has_image"], still["has_video"], still["has_text"]) == (True, True, False, False)
    segment = next(row for row in originals if row["key"] == "rec1/0001")
    assert (segment["text"], segment["label"], segment["start_s"], segment["end_s"]) == ("two", "2", 1.0, 2.0)
    assert np.isnan(store.get(["still"], "video")).all()
    assert np.isfinite(store.get(["rec1/0001"], "video").astype(np.float32)).all()
    assert {view.shape for view in store.views.values()} == {(384,), (1280,), (168,)}


def test_augmented_copies_are_of_training_samples_only(made: Path) -> None:
    store = features.open(made / "features")
    copied = store.sql("select split, count(*) as num from samples where variant > 0 group by 1").to_pylist()
    trained = store.sql("select count(*) as num from samples where variant = 0 and split = 'train'").to_pylist()
    assert copied == [{"split": "train", "num": trained[0]["num"]}]


def test_segments_of_one_recording_share_a_split(made: Path) -> None:
    store = features.open(made / "features")
    assert store.sql("select recording from samples group by 1 having count(distinct split) > 1").num_rows == 0


def test_two_runs_from_scratch_and_one_thread_give_the_same_bytes(source: Path, made: Path, tmp_path: Path) -> None:
    run_to_pack(small_params(source, beam__threads=1), tmp_path / "data")
    assert digests(tmp_path / "data") == digests(made)


def test_a_run_with_nothing_changed_leaves_every_file_alone(source: Path, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.arrow")}
    run_to_pack(small_params(source), copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.arrow")} == before


def test_another_option_of_one_view_rewrites_that_view_alone(source: Path, copy: Path) -> None:
    before = digests(copy / "features")
    params = small_params(source, embed__views__audio__pooling="mean")
    embed(params.embed, [copy / "align", copy / "augment"], copy / "features", params.beam, ingest=copy / "ingest")
    after = digests(copy / "features")
    kept = {
        name: digest for name, digest in before.items() if name.startswith(("samples/", "text/", "image/", "video/"))
    }
    assert kept.items() <= after.items()
    assert not {name for name in before if name.startswith("audio/")} & after.keys()
    assert features.open(copy / "features").views["audio"].shape == (84,)


def test_a_renamed_view_keeps_its_rows_and_a_removed_one_its_folder_no_longer(source: Path, copy: Path) -> None:
    params = small_params(source)
    views = dict(params.embed.views)
    views["sound"] = views.pop("audio")
    del views["video"]
    old = features.open(copy / "features").get(["still"], "audio").tobytes()
    embed(
        params.embed.model_copy(update={"views": views}),
        [copy / "align", copy / "augment"],
        copy / "features",
        params.beam,
        ingest=copy / "ingest",
    )
    store = features.open(copy / "features")
    assert set(store.views) == {"image", "sound", "text"}
    assert store.get(["still"], "sound").tobytes() == old
    assert not (copy / "features" / "video").exists()


def test_an_added_recording_changes_its_own_shards_and_ends_as_from_scratch(source: Path, tmp_path: Path) -> None:
    recordings = Path(shutil.copytree(source, tmp_path / "recordings"))
    grown, scratch = tmp_path / "grown", tmp_path / "scratch"
    params = small_params(recordings)
    run_to_pack(params, grown)
    before = digests(grown)
    (recordings / "rec3b.mp4").write_bytes((recordings / "rec3.mp4").read_bytes() + bytes(8))
    (recordings / "rec3b.srt").write_text("1\n00:00:00,000 --> 00:00:01,500\nthree\n")
    run_to_pack(params, grown)
    after = digests(grown)
    run_to_pack(params, scratch)
    assert digests(scratch) == after
    for folder in ("clean/", "align/", "features/image/"):
        shards = {item for item in after.items() if item[0].startswith(folder) and item[0].endswith(".arrow")}
        assert len(shards & before.items()) >= len(shards) - 2 > 0, folder


def test_rows_that_are_stored_are_not_encoded_again(
    source: Path, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    params = small_params(source, embed__shard_samples=16)
    before = features.open(copy / "features")
    vectors = before.get(before.keys, "image").tobytes()
    embed(params.embed, [copy / "align", copy / "augment"], copy / "features", params.beam, ingest=copy / "ingest")
    after = features.open(copy / "features")
    assert len(after.manifest.shards) < len(before.manifest.shards)
    assert after.get(after.keys, "image").tobytes() == vectors


# webdataset leaves the tars that it has read to the garbage collector to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_packed_shards_are_read_by_webdataset(made: Path) -> None:
    counts = json.loads((made / "packed" / "counts.json").read_text())
    store = features.open(made / "features")
    for split, count in counts.items():
        tars = sorted(str(path) for path in (made / "packed").glob(f"{split}-*.tar"))
        assert len(tars) == count["shards"]
        samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode()) if tars else []
        assert len(samples) == count["samples"]
        assert sum("mp4" in sample for sample in samples) == count["video"]
        for sample in samples:
            key = sample["json"]["key"]
            assert sample["json"]["split"] == split
            if "image.npy" in sample:
                np.testing.assert_array_equal(sample["image.npy"], store.get([key], "image")[0])
        if tars:
            streamed = list(store.webdataset(split, shuffle=0, decode=True))
            assert [sample["__key__"] for sample in streamed] == [sample["__key__"] for sample in samples]
        gc.collect()


def test_an_unknown_encoder_is_an_error_before_any_work(source: Path, copy: Path) -> None:
    before = digests(copy)
    params = small_params(source, embed__views__text__encoder="minilmm")
    with pytest.raises(EncoderError, match="'minilmm' is unknown: did you mean 'minilm'"):
        embed(params.embed, [copy / "align", copy / "augment"], copy / "features", params.beam, ingest=copy / "ingest")
    assert digests(copy) == before


def test_too_many_rejects_publish_nothing(source: Path, copy: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(source, tmp_path / "broken"))
    for index in range(4):
        (broken / f"rec{index}.mp4").write_text("not a film")
    before = (copy / "clean" / "manifest.json").read_bytes()
    params = small_params(broken)
    ingest(params.ingest, copy / "ingest", params.beam)
    with pytest.raises(RejectRatioError, match=r"clean rejected \d of 7 .*undecodable"):
        clean(params.clean, copy / "ingest", copy / "clean", params.beam)
    assert (copy / "clean" / "manifest.json").read_bytes() == before


def test_packed_shards_are_a_source_again(made: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "tars"
    held_out.mkdir()
    for tar in [*(made / "packed").glob("val-*.tar"), *(made / "packed").glob("test-*.tar")]:
        shutil.copy(tar, held_out)
    data = tmp_path / "data"
    run_to_pack(small_params(held_out), data)
    before, after = features.open(made / "features"), features.open(data / "features")
    kept = before.table([], where="split <> 'train'")
    columns = ["key", "group", "split", "label", "text", "has_image", "has_audio", "has_video"]

    assert after.samples.num_rows > 0
    assert after.samples.select(columns).to_pylist() == kept.select(columns).to_pylist()

"""Embed: which rows run through the encoder, which are kept or copied, and when nothing is published."""

import os
from pathlib import Path

import pytest
from corpus import digests
from counting import CountingEncoder, counting_view, embed_texts, publish_sources, take_log

import features
from features.errors import EncoderError, RejectRatioError, ShardError, StageError, StoreError
from features.manifest import MANIFEST_FILE
from features.reasons import Reason
from features.shards import read_shard
from features.view import View
from pipelines.embed import choose_device
from pipelines.view_plan import define_view

TEXTS: dict[str, str | None] = {f"rec{index // 3:02d}/{index % 3}": f"text number {index}" for index in range(30)}
TEXTS["rec04/1"] = None


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "words.log"


@pytest.fixture
def project(tmp_path: Path, log: Path) -> Path:
    """The texts, embedded in one view; the log is empty."""
    embed_texts(tmp_path, TEXTS, [counting_view(log)])
    assert take_log(log) == sorted(filter(None, TEXTS.values()))
    take_log(log.with_suffix(".loads"))
    return tmp_path


def test_embed_encodes_exactly_what_was_added_or_edited(project: Path, log: Path) -> None:
    texts = {**TEXTS, "rec02/0": "edited", "rec99/0": "added", "rec04/1": "no longer absent", "rec05/0": None}
    del texts["rec07/1"]
    store = embed_texts(project, texts, [counting_view(log)])

    assert take_log(log) == ["added", "edited", "no longer absent"]
    opened = features.open(store)
    assert opened.keys == sorted(texts)
    assert opened.views["words"].num_present == len(texts) - 1


def test_embed_after_a_removal_runs_no_encoder_and_loads_no_model(project: Path, log: Path) -> None:
    texts = dict(list(TEXTS.items())[5:])
    embed_texts(project, texts, [counting_view(log)])

    assert take_log(log) == take_log(log.with_suffix(".loads")) == []


@pytest.mark.parametrize("pooling", ["mean", "sequence"])
def test_embed_gives_the_bytes_of_a_run_from_scratch(tmp_path: Path, log: Path, pooling: str) -> None:
    """Whether it goes on from another version, on one thread or on two."""
    before = {**TEXTS, "rec02/0": "other", "rec06/1": None, "rec99/9": "gone"}
    del before["rec03/0"], before["rec03/1"]
    defined = [counting_view(log, pooling=pooling)]
    embed_texts(tmp_path / "grown", before, defined)
    stores = [
        embed_texts(tmp_path / name, TEXTS, defined, threads=threads)
        for name, threads in (("grown", 2), ("one", 1), ("two", 2))
    ]

    assert digests(stores[0]) == digests(stores[1]) == digests(stores[2])


def test_embed_with_nothing_changed_touches_no_shard(project: Path, log: Path) -> None:
    store = project / "features"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.arrow")}
    content = digests(store)
    embed_texts(project, TEXTS, [counting_view(log)])

    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.arrow")} == before
    assert digests(store) == content
    assert take_log(log) == take_log(log.with_suffix(".loads")) == []


def test_embed_copies_the_rows_of_a_recording_that_is_called_otherwise(project: Path, log: Path) -> None:
    old = features.open(project / "features").get(["rec03/1"], "words")
    texts = {key.replace("rec03", "talk"): text for key, text in TEXTS.items()}
    store = features.open(embed_texts(project, texts, [counting_view(log)]))

    assert take_log(log) == []
    assert store.get(["talk/1"], "words").tobytes() == old.tobytes()


def test_embed_names_the_files_that_were_moved_and_does_nothing_else(project: Path, log: Path) -> None:
    before = digests(project / "features" / "words")
    publish_sources(project / "ingest", {"rec00": "raw/rec00.wav", "rec09": "elsewhere/rec 09.wav"})
    store = embed_texts(project, TEXTS, [counting_view(log)])

    samples = features.open(store).samples
    sources = dict(zip(samples["key"].to_pylist(), samples["source"].to_pylist(), strict=True))
    assert (sources["rec00/2"], sources["rec09/0"], sources["rec01/0"]) == ("raw/rec00.wav", "elsewhere/rec 09.wav", "")
    assert digests(store / "words") == before
    assert take_log(log) == []


def test_embed_keeps_the_rows_of_a_view_that_is_called_otherwise(project: Path, log: Path) -> None:
    before = digests(project / "features" / "words")
    store = embed_texts(project, TEXTS, [counting_view(log, "sentences")])

    assert take_log(log) == take_log(log.with_suffix(".loads")) == []
    assert digests(store / "sentences") == before
    assert not (store / "words").exists()


@pytest.mark.parametrize("changed", [{"weights": "two"}, {"settings": {"size": 2}}, {"pooling": "max"}])
def test_embed_runs_the_view_alone_whose_weights_or_definition_changed(
    project: Path, log: Path, changed: dict[str, object]
) -> None:
    second = project / "second.log"
    embed_texts(project, TEXTS, [counting_view(log), counting_view(second, "second", weights="other")])
    assert take_log(log) == []
    before = digests(project / "features" / "words")
    take_log(second)
    changed = {"weights": "other", **changed}
    embed_texts(project, TEXTS, [counting_view(log), counting_view(second, "second", **changed)])

    assert take_log(log) == []
    assert take_log(second) == sorted(filter(None, TEXTS.values()))
    assert digests(project / "features" / "words") == before


def test_embed_encodes_equal_inputs_of_one_shard_once(tmp_path: Path, log: Path) -> None:
    texts = {f"a/{index}": "same" for index in range(3)}
    store = features.open(embed_texts(tmp_path, {**texts, "b": "bad", "c": "bad"} | TEXTS, [counting_view(log)]))

    num_shards = {
        text: sum(text in read_texts(store, index) for index in range(len(store.manifest.shards)))
        for text in ("same", "bad")
    }
    lines = take_log(log)
    assert {text: lines.count(text) for text in num_shards} == num_shards
    vectors = store.get(list(texts), "words")
    assert (vectors == vectors[0]).all()
    assert {row["key"] for row in store.rejects.to_pylist()} == {"b", "c"}


def read_texts(store: features.Store, index: int) -> list[str]:
    return list(store.reader.samples(index)["text"].to_pylist())


def test_embed_does_not_try_again_what_it_rejected(tmp_path: Path, log: Path) -> None:
    texts = {**TEXTS, "rec01/1": "bad", "rec08/2": "as bad"}
    embed_texts(tmp_path, texts, [counting_view(log)])
    take_log(log)
    renamed = {key.replace("rec08", "talk"): text for key, text in texts.items()}
    store = embed_texts(tmp_path, {**renamed, "rec01/0": "new"}, [counting_view(log, "sentences")])

    assert take_log(log) == ["new"]
    rejects = {row["key"]: row for row in features.open(store).rejects.to_pylist()}
    assert set(rejects) == {"rec01/1", "talk/2"}
    reject = rejects["talk/2"]
    assert (reject["stage"], reject["reason"], reject["dropped"]) == ("embed", Reason.UNDECODABLE, "text")
    assert reject["text"] == "view sentences: a bad word"
    assert features.open(store).views["sentences"].num_present == len(texts) - 3
    again = embed_texts(tmp_path, {**renamed, "rec01/0": "new"}, [counting_view(log, "sentences")])
    assert features.open(again).rejects.to_pylist() == list(rejects.values())


def test_embed_encodes_the_rows_of_a_removed_file_again(project: Path, log: Path) -> None:
    store = project / "features"
    before = digests(store)
    gone = min((store / "words").iterdir())
    texts = [TEXTS[key] for key in read_shard(gone)["key"].to_pylist()]
    gone.unlink()
    min((store / "samples").iterdir()).unlink()
    embed_texts(project, TEXTS, [counting_view(log)])

    assert take_log(log) == sorted(filter(None, texts))
    assert digests(store) == before


def test_embed_takes_no_rows_from_a_damaged_file(project: Path, log: Path) -> None:
    """A flipped bit of a vector would get a fresh digest; a file that is cut short cannot be read."""
    store = project / "features"
    path = max((store / "words").iterdir(), key=lambda path: read_shard(path).num_rows)
    keys, content = read_shard(path)["key"].to_pylist(), path.read_bytes()
    manifest = (store / MANIFEST_FILE).read_bytes()
    place = content.rindex(read_shard(path)["embedding"].chunk(0).values.to_numpy().tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    os.utime(path, (0, 0))  # as a disk does that decays
    with pytest.raises(StageError, match="is not what the manifest says: delete it"):
        embed_texts(project, {**TEXTS, keys[0]: "edited"}, [counting_view(log)])
    path.write_bytes(content[:-20])
    with pytest.raises(ShardError, match="no whole Arrow file"):
        embed_texts(project, TEXTS, [counting_view(log)])

    assert (store / MANIFEST_FILE).read_bytes() == manifest


@pytest.mark.parametrize("table", ["words", "samples"])
def test_embed_keeps_no_file_that_was_damaged_since_it_was_published(project: Path, log: Path, table: str) -> None:
    """Its name would be listed again, with its rows in no need of any work, and DVC would note it as it is."""
    store = project / "features"
    path = min((store / table).iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    with pytest.raises(ShardError, match=f"{path.name} is not what the manifest says: delete it and run 'dvc repro'"):
        embed_texts(project, TEXTS, [counting_view(log)])

    path.write_bytes(content)  # as a checkout does, which writes files after the manifest
    embed_texts(project, TEXTS, [counting_view(log)])
    assert take_log(log) == []


def test_embed_goes_on_with_smaller_batches_and_says_so_as_long_as_their_rows_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    small = embed_texts(tmp_path / "small", TEXTS, [counting_view(log, most_units=2)])
    whole = embed_texts(tmp_path / "whole", TEXTS, [counting_view(log)])
    stored = features.open(small).views["words"]
    assert (features.open(small).table(["words"])).equals(features.open(whole).table(["words"]))
    assert not stored.deterministic
    assert str(stored.caveat).startswith("memory did not suffice for whole batches, so some were divided by 2")
    assert "embed words: " in capsys.readouterr().err

    embed_texts(tmp_path / "small", {**TEXTS, "rec01/0": "new"}, [counting_view(log)])
    assert features.open(small).views["words"].caveat == stored.caveat
    embed_texts(tmp_path / "small", TEXTS, [counting_view(log, weights="two")])
    assert features.open(small).views["words"].deterministic


def test_embed_says_in_one_line_that_memory_does_not_hold_a_model(tmp_path: Path, log: Path) -> None:
    with pytest.raises(StageError) as raised:
        embed_texts(tmp_path, TEXTS, [counting_view(log, side=1 << 28)])
    assert str(raised.value) == (
        "view 'words': to load encoder 'counting' takes more memory than 'cpu' has: "
        "choose a smaller model or smaller options"
    )


def test_embed_says_what_it_wrote_and_what_it_found_of_a_run_that_published_nothing(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {**TEXTS, "rec01/1": "bad"}
    with pytest.raises(RejectRatioError):
        embed_texts(tmp_path, texts, [counting_view(log)], max_reject_ratio=0.0)
    files = sorted((tmp_path / "features" / "words").glob("*.arrow"))
    assert f"{len(files)} of {len(files)} files written, 29 of their 30 samples encoded\n" in capsys.readouterr().err
    gone = read_shard(files[0]).num_rows
    files[0].unlink()
    embed_texts(tmp_path, texts, [counting_view(log)])

    written = f"embed words: 1 of {len(files)} files written, {gone} of their {gone} samples encoded"
    found = f"{len(files) - 1} found, written by a run that published nothing"
    assert f"{written}; {found}\n" in capsys.readouterr().err


def test_embed_says_what_to_do_when_its_rejects_are_damaged_or_gone(project: Path, log: Path) -> None:
    rejects = next((project / "features").glob("rejects-*"))
    rejects.write_bytes(rejects.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"rejects-.* is damaged: delete it and run 'dvc checkout"):
        embed_texts(project, TEXTS, [counting_view(log)])
    rejects.unlink()
    with pytest.raises(StoreError, match=r"rejects-.* is in the manifest but not on disk: run 'dvc checkout"):
        embed_texts(project, TEXTS, [counting_view(log)])


def test_embed_above_the_reject_ratio_publishes_nothing(project: Path, log: Path) -> None:
    before = digests(project / "features" / "words")
    texts = {key: "bad" if index % 3 else text for index, (key, text) in enumerate(TEXTS.items())}
    with pytest.raises(RejectRatioError, match=r"embed rejected 20 of 30 .*undecodable 20"):
        embed_texts(project, texts, [counting_view(log)])

    assert before.items() <= digests(project / "features" / "words").items()
    assert len(features.open(project / "features").get(["rec00/1"], "words")) == 1


def test_embed_without_a_sample_says_so(tmp_path: Path, log: Path) -> None:
    with pytest.raises(StageError, match="no sample came through"):
        embed_texts(tmp_path, {}, [counting_view(log)])


def test_embed_says_which_views_may_come_out_otherwise(tmp_path: Path, log: Path) -> None:
    on_cuda = View(name="cuda", input="text", encoder="counting")
    views = [
        counting_view(log),
        counting_view(log, "noisy", nondeterministic="it draws lots"),
        define_view(on_cuda, CountingEncoder(log), "cuda"),
    ]
    stored = features.open(embed_texts(tmp_path, TEXTS, views)).views

    assert (stored["words"].deterministic, stored["words"].caveat) == (True, None)
    assert (stored["noisy"].deterministic, stored["noisy"].caveat) == (False, "it draws lots")
    assert not stored["cuda"].deterministic
    assert "another GPU" in str(stored["cuda"].caveat)


def test_choose_device_takes_no_cuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (choose_device("auto"), choose_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(EncoderError, match="sees no CUDA device"):
        choose_device("cuda")

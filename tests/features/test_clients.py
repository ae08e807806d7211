"""What Plait wrote, opened with code that is not ours."""

import gc
from pathlib import Path
from typing import Any

import datasets
import duckdb
import lance
import media_files
import numpy as np
import polars as pl
import pyarrow.dataset as ds
import pytest
import torch
import webdataset
from building import build_store

import features
from features.sample import MEDIA_SCHEMA, media_row
from features.shards import shard_writer
from pipelines.card import write_card
from pipelines.digests import sample_digests
from pipelines.job import ShardTask
from pipelines.pack import PackShard
from pipelines.progress import ShardProgress

NUM_SAMPLES = 24
NUM_PACKED = 12  # in each tar
PIXELS = media_files.pixels(16, 16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> features.Store:
    """Several shards, absent embeddings, float16 and float32, and a view of sequences."""
    folder = tmp_path_factory.mktemp("clients") / "features"
    rng = np.random.default_rng(5)
    samples = [
        {"key": f"rec{row:02}.a/0", "split": "val" if row % 4 == 3 else "train", "label": None if row % 3 else "word"}
        for row in range(NUM_SAMPLES)
    ]
    views = {
        "image": {"vectors": [None if row % 6 == 1 else rng.normal(size=8) for row in range(NUM_SAMPLES)]},
        "sound": {"vectors": list(rng.normal(size=(NUM_SAMPLES, 3))), "dtype": "float32", "input": "audio"},
        "frames": {
            "vectors": [None if row % 5 == 2 else rng.normal(size=(1 + row % 3, 2)) for row in range(NUM_SAMPLES)],
            "times": [None if row % 5 == 2 else rng.uniform(size=(1 + row % 3, 2)) for row in range(NUM_SAMPLES)],
        },
    }
    build_store(folder, samples, views)
    return features.open(folder)


@pytest.fixture(scope="module")
def packed(store: features.Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tars of samples of which some lack the image, and some the text."""
    folder = tmp_path_factory.mktemp("packed")
    rows = store.samples.select(["key", "recording", "group", "split", "label", "variant"]).to_pylist()
    with shard_writer(folder / "media.arrow", MEDIA_SCHEMA) as writer:
        for place, row in enumerate(rows):
            image = None if place % 6 == 1 else media_files.image_bytes(PIXELS, "PNG")
            text = f"text {place}" if place % 2 else None
            sample = media_row(**row, text=text, image=image, source_digest="d")
            writer.append({**sample, "digests": sample_digests(sample)})
    for number in range(2):
        name = f"train-{number:06d}"
        inputs = [
            (str(folder / "media.arrow"), row, "a.mp4") for row in range(number * NUM_PACKED, (number + 1) * NUM_PACKED)
        ]
        task = ShardTask(name, str(folder), f"{name}.tar", "f" * 16, NUM_PACKED, inputs)
        PackShard(str(store.folder))(task, ShardProgress(folder / "progress"))
    write_card(folder, store.views, ["train"])
    return folder


def expected(store: features.Store, view: str, column: str | None = None) -> dict[str, Any]:
    """Value by key, as the store itself gives it."""
    table = store.table([view])
    return dict(zip(store.keys, table[column or view].to_pylist(), strict=True))


def shards(store: features.Store, folder: str) -> list[str]:
    return sorted(str(path) for path in (store.folder / folder).glob("*.arrow"))


@pytest.mark.parametrize("view", ["image", "sound", "frames"])
def test_pyarrow_dataset_reads_the_shards_of_a_view(store: features.Store, view: str) -> None:
    found = ds.dataset(shards(store, view), format="ipc").to_table(columns=["key", "embedding"])

    assert len(shards(store, view)) > 2
    assert dict(zip(found["key"].to_pylist(), found["embedding"].to_pylist(), strict=True)) == expected(store, view)


def test_pyarrow_dataset_filters_the_samples(store: features.Store) -> None:
    samples = ds.dataset(shards(store, "samples"), format="ipc")
    found = samples.to_table(filter=ds.field("split") == "val")

    assert sorted(found.to_pylist(), key=lambda row: row["key"]) == store.table([], split="val").to_pylist()


@pytest.mark.parametrize(("view", "kind"), [("image", pl.Array(pl.Float16, 8)), ("sound", pl.Array(pl.Float32, 3))])
def test_polars_reads_the_shards_of_a_view(store: features.Store, view: str, kind: pl.DataType) -> None:
    eager = pl.concat([pl.read_ipc(path) for path in shards(store, view)])
    lazy = pl.scan_ipc(shards(store, view)).filter(pl.col("embedding").is_not_null()).collect()

    assert eager.schema["embedding"] == kind
    assert dict(zip(eager["key"], eager["embedding"].to_list(), strict=True)) == expected(store, view)
    assert len(lazy) == store.views[view].num_present


def test_polars_scans_an_export(store: features.Store, tmp_path: Path) -> None:
    store.export("parquet", tmp_path / "out.parquet")
    scan = pl.scan_parquet(tmp_path / "out.parquet").filter(pl.col("split") == "val").select("key", "image", "frames")
    found = scan.collect().rows()

    wanted = store.table(["image", "frames"], split="val").select(["key", "image", "frames"])
    assert found == [tuple(row.values()) for row in wanted.to_pylist()]


def test_duckdb_reads_an_export(store: features.Store, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    store.export("parquet", path)
    rows = duckdb.sql(f"select key, image, sound, frames, frames_end_s from read_parquet('{path}')").fetchall()

    columns = ("image", "sound", "frames", "frames_end_s")
    found = {key: values for key, *values in rows}
    table = store.table(["image", "sound", "frames"])
    assert found == {row["key"]: [row[name] for name in columns] for row in table.to_pylist()}


def test_duckdb_reads_the_shards_through_pyarrow(store: features.Store) -> None:
    samples = ds.dataset(shards(store, "samples"), format="ipc")  # noqa: F841  # DuckDB finds it by its name
    sound = ds.dataset(shards(store, "sound"), format="ipc")  # noqa: F841  # as above
    query = "select key, embedding from samples join sound using (key) where split = 'val' and label = 'word'"
    found = dict(duckdb.sql(query).fetchall())

    wanted = store.table(["sound"], split="val", where="label = 'word'")
    assert 0 < len(found) < NUM_SAMPLES
    assert found == {row["key"]: tuple(row["sound"]) for row in wanted.to_pylist()}


def test_lance_takes_and_searches_an_export(store: features.Store, tmp_path: Path) -> None:
    store.export("lance", tmp_path / "out")
    found = lance.dataset(tmp_path / "out")

    taken = found.take([3, 1, 20], columns=["key", "image"])
    assert taken["image"].to_pylist() == [expected(store, "image")[key] for key in taken["key"].to_pylist()]
    query = store.get([store.keys[6]], "sound")[0]
    near = found.to_table(nearest={"column": "sound", "q": query, "k": 1, "use_index": False}, columns=["key"])
    assert near["key"].to_pylist() == [store.keys[6]]


def test_datasets_gives_tensors_of_an_export(store: features.Store, tmp_path: Path) -> None:
    store.export("datasets", tmp_path / "out", where="image is not null")
    found = datasets.load_from_disk(tmp_path / "out")

    assert found.features["image"] == datasets.List(datasets.Value("float16"), length=8)
    assert found.features["frames"] == datasets.List(datasets.List(datasets.Value("float16"), length=2))
    image_ND = found.with_format("torch")["image"][:]
    assert torch.equal(image_ND.to(torch.float16), torch.from_numpy(store.get(found["key"][:], "image")))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is tried fails the test."""

    def refuse(*where: object) -> None:
        raise AssertionError(f"a connection to {where[1:]}")

    monkeypatch.setattr("socket.socket.connect", refuse)


def check_packed(store: features.Store, rows: list[dict[str, Any]]) -> None:
    assert [row["json"]["key"] for row in rows] == store.keys
    assert [row.get("txt") for row in rows] == [f"text {place}" if place % 2 else None for place in range(NUM_SAMPLES)]
    assert [row.get("png") is None for row in rows] == [place % 6 == 1 for place in range(NUM_SAMPLES)]
    for view in store.views:
        found = {row["json"]["key"]: row.get(f"{view}.npy") for row in rows}
        assert {key: None if vector is None else np.asarray(vector).tolist() for key, vector in found.items()} == (
            expected(store, view)
        )


# webdataset leaves the tars that it has read to the garbage collector to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_packed_shards(store: features.Store, packed: Path) -> None:
    tars = sorted(str(path) for path in packed.glob("*.tar"))
    rows = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    gc.collect()

    check_packed(store, rows)
    np.testing.assert_array_equal(rows[0]["png"], PIXELS)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_the_folder_of_packed_shards(
    store: features.Store, packed: Path, tmp_path: Path, streaming: bool
) -> None:
    loaded = datasets.load_dataset(str(packed), split="train", streaming=streaming, cache_dir=str(tmp_path))
    rows = list(loaded)

    check_packed(store, rows)
    np.testing.assert_array_equal(np.asarray(rows[0]["png"]), PIXELS)


@pytest.mark.usefixtures("no_network")
def test_datasets_reads_packed_shards_as_webdataset(store: features.Store, packed: Path, tmp_path: Path) -> None:
    """Members differ from sample to sample, so the types are not left to be guessed from the first five."""
    declared = datasets.load_dataset_builder(str(packed), cache_dir=str(tmp_path)).info.features
    files = sorted(str(path) for path in packed.glob("*.tar"))
    loaded = datasets.load_dataset(
        "webdataset", data_files={"train": files}, features=declared, split="train", cache_dir=str(tmp_path)
    )

    check_packed(store, list(loaded))

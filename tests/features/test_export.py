import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import datasets
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import build_store

import features
from features.errors import QueryError, StoreError
from features.exports import FORMATS

NUM_SAMPLES = 40
NUM_VAL = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> features.Store:
    """Many shards; a view of each dtype, one of sequences, absent embeddings, and a name that a sample column has."""
    folder = tmp_path_factory.mktemp("export") / "features"
    rng = np.random.default_rng(3)
    samples = [
        {"key": f"rec{row:02}/0", "split": "train" if row % 5 else "val", "label": f"l{row % 3}" if row % 4 else None}
        for row in range(NUM_SAMPLES)
    ]
    for row, sample in enumerate(samples[:3]):
        sample["words"] = [{"start_s": 0.5 * place, "end_s": 0.5 * place + 0.4, "text": "so"} for place in range(row)]
    lengths = [None if row % 4 == 1 else row % 3 for row in range(NUM_SAMPLES)]
    views = {
        "image": {"vectors": [None if row % 7 == 1 else rng.normal(size=6) for row in range(NUM_SAMPLES)]},
        "text": {"vectors": list(rng.normal(size=(NUM_SAMPLES, 3))), "dtype": "float32"},
        "words": {
            "vectors": [None if length is None else rng.normal(size=(length, 2)) for length in lengths],
            "times": [None if length is None else np.sort(rng.uniform(size=(length, 2))) for length in lengths],
        },
    }
    build_store(folder, samples, views)
    return features.open(folder)


def read_back(name: str, path: Path) -> pa.Table:
    """What the format's own reader gives."""
    if name == "parquet":
        return pq.read_table(path)
    return lance.dataset(path).to_table() if name == "lance" else datasets.load_from_disk(path).data.table


@pytest.mark.parametrize("name", ["parquet", "lance", "datasets"])
def test_export_holds_what_the_table_holds(store: features.Store, tmp_path: Path, name: str) -> None:
    assert store.export(name, tmp_path / "out") == NUM_SAMPLES

    found, expected = read_back(name, tmp_path / "out"), store.table(list(store.views))
    assert found.column_names == expected.column_names
    assert found.to_pylist() == expected.to_pylist()
    assert found["image"].null_count == 6
    assert found["image"].type.value_type == pa.float16()
    assert found["text_embedding"].type.value_type == pa.float32()


@pytest.mark.parametrize("name", ["parquet", "lance", "datasets"])
def test_export_takes_views_split_and_condition(store: features.Store, tmp_path: Path, name: str) -> None:
    chosen = {"views": ["image"], "split": "val", "where": "label is not null"}
    num_samples = store.export(name, tmp_path / "out", **chosen)

    assert 0 < num_samples < NUM_VAL
    expected = store.table(["image"], split="val", where="label is not null").to_pylist()
    assert read_back(name, tmp_path / "out").to_pylist() == expected
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["parquet", "lance", "datasets"])
def test_export_says_which_versions_of_the_views_it_holds(store: features.Store, tmp_path: Path, name: str) -> None:
    store.export(name, tmp_path / "out", views=["text"], split="train")

    if name == "datasets":
        described = datasets.load_from_disk(tmp_path / "out").info.description
    else:
        schema = pq.read_schema(tmp_path / "out") if name == "parquet" else lance.dataset(tmp_path / "out").schema
        described = schema.metadata[b"plait"]
    description = json.loads(described)
    assert description["split"] == "train"
    assert {view: known["rev"] for view, known in description["views"].items()} == {"text": store.views["text"].rev}
    assert description["views"]["text"]["dim"] == 3


def test_export_parquet_is_the_same_each_time(store: features.Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.export("parquet", tmp_path / name)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_export_replaces_nothing(store: features.Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").write_text("mine")

    with pytest.raises(StoreError, match="out exists, and an export replaces nothing: remove it or name another path"):
        store.export(name, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("name", ["parquet", "lance", "datasets"])
def test_export_that_fails_leaves_nothing(store: features.Store, tmp_path: Path, name: str) -> None:
    """The second shard cannot be read: what was written of the first must not stay."""
    broken = tmp_path / "store"
    build_store(broken, [{"key": f"k{row:02}"} for row in range(30)], {"image": {"vectors": np.ones((30, 2))}})
    files = list(features.open(broken).views["image"].files.values())
    (broken / "image" / files[1]).write_bytes(b"ARROW1")

    with pytest.raises(features.errors.PlaitError, match=files[1]):
        features.open(broken).export(name, tmp_path / "out")
    assert os.listdir(tmp_path) == ["store"]


@pytest.mark.parametrize(("name", "package"), [("lance", "pylance"), ("datasets", "datasets")])
def test_export_says_how_to_install_what_it_lacks(
    store: features.Store, tmp_path: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(StoreError, match=rf"needs the package '{package}'.*run pip install -e '\.\[export\]'"):
        store.export(name, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "chosen", "error", "message"),
    [
        ("parket", {}, StoreError, "did you mean 'parquet'"),
        ("parquet", {"views": ["imag"]}, StoreError, "did you mean 'image'"),
        ("parquet", {"split": "trian"}, StoreError, "did you mean 'train'"),
        ("parquet", {"where": "false"}, StoreError, "no sample to export"),
        ("parquet", {"where": "colour = 1"}, QueryError, "colour"),
    ],
)
def test_export_of_the_unknown_is_an_error_and_writes_nothing(
    store: features.Store, tmp_path: Path, name: str, chosen: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        store.export(name, tmp_path / "out", **chosen)
    assert os.listdir(tmp_path) == []


# What a user of Feast does: 'feast apply', features as of two times, and serving from SQLite. It runs in a process of
# its own, since Feast changes the environment of the one that imports it.
_FEAST = """
import json
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
from feast import FeatureStore
from feast.repo_operations import apply_total

store = FeatureStore(repo_path=".")
apply_total(store.config, Path.cwd(), skip_source_validation=False)
before, after = (datetime(2026, month, 15, tzinfo=timezone.utc) for month in (1, 2))
keys = json.loads(Path("keys.json").read_text())
names = ["samples:label", "image:image", "text:text_embedding", "words:words_embedding", "words:words_embedding_end_s"]
historical = {}
for asked in (before, after):
    entities = pd.DataFrame({"key": keys, "event_timestamp": [asked] * len(keys)})
    found = store.get_historical_features(entity_df=entities, features=names).to_arrow().to_pylist()
    historical[asked.month] = {row["key"]: [row[name.split(":")[1]] for name in names] for row in found}
store.materialize(before, after, ["image"])
online = store.get_online_features(features=["image:image"], entity_rows=[{"key": key} for key in keys]).to_dict()
Path("found.json").write_text(json.dumps([historical, online["image"]]))
"""


def test_export_feast_is_a_repository_that_feast_serves(store: features.Store, tmp_path: Path) -> None:
    folder, keys = tmp_path / "out", [f"rec{row:02}/0" for row in (9, 1, 15, 2)]  # of 1 and 15 no image
    assert store.export("feast", folder, where="label is not null", time=datetime(2026, 1, 31, tzinfo=UTC)) == 30
    (folder / "keys.json").write_text(json.dumps(keys))
    subprocess.run([sys.executable, "-c", _FEAST], cwd=folder, check=True)
    historical, online = json.loads((folder / "found.json").read_text())

    columns = ["label", "image", "text_embedding", "words_embedding", "words_embedding_end_s"]
    expected = {row["key"]: [row[name] for name in columns] for row in store.table(list(store.views)).to_pylist()}
    assert historical["2"] == {key: expected[key] for key in keys}
    assert all(row == [None] * len(columns) for row in historical["1"].values())
    assert online == [expected[key][1] for key in keys]

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import build_store

import features
from features.errors import StoreError
from features.manifest import parse_manifest
from features.rev import digest_bytes, digest_file
from pipelines.pack import packed_sample
from pipelines.raw import RAW_SCHEMA

KEYS = ["rec.0/0000", "rec.0/0000~1", "rec.0/0001", *(f"rec1/{number:04}" for number in range(12))]
STEPS = {
    "augment": {"copies": 1},
    "clean": {"audio": {"rate_hz": 16000}, "code": "c1ea"},
    "embed": {"shard_samples": 8},
    "align": {"min_s": 0.1},
}
REJECTS = [
    {"key": "rec.0/0001", "stage": "clean", "reason": "silent", "dropped": "audio", "text": "it peaks at -80 dBFS"},
    {"key": "rec2", "stage": "clean", "reason": "truncated", "dropped": "sample", "text": "it ends at 7 s"},
    {"key": "rec1", "stage": "align", "reason": "overlap", "dropped": "nothing", "text": "2 of 3 cues"},
    {"key": "rec1/0004", "stage": "align", "reason": "clipped", "dropped": "part", "text": "1 to 3 s"},
    {"key": "rec2/0001", "stage": "align", "reason": "too_short", "dropped": "sample", "text": "it has 0.05 s"},
]


@pytest.fixture
def store(tmp_path: Path) -> features.Store:
    folder = tmp_path / "data" / "features"
    folder.mkdir(parents=True)
    samples = [
        {
            "key": key,
            "recording": key.partition("/")[0],
            "variant": int("~" in key),
            "start_s": 1.0,
            "end_s": 2.5,
            "split": "train" if key < "rec1" else "val",
        }
        for key in KEYS
    ]
    vectors = [None if number == 2 else np.full(4, number) for number in range(len(KEYS))]
    build_store(folder, samples, {"image": {"vectors": vectors, "rev": "view"}}, rejects=REJECTS)
    manifest = parse_manifest((folder / "manifest.json").read_bytes(), folder)
    replace(manifest, steps=STEPS).save(folder)
    return features.open(folder)


@pytest.fixture
def ingested(store: features.Store) -> None:
    """What ingest wrote, for two of the recordings."""
    path = store.folder.parent / "ingest" / "manifest.parquet"
    path.parent.mkdir()
    video = {"uri": "talks/a.mp4", "suffix": ".mp4", "offset": None, "size": 12, "digest": "abc"}
    rows = [{"key": key, "group": key, "split": "train", "video": video, "text": "né"} for key in ("rec.0", "rec2")]
    pq.write_table(pa.Table.from_pylist(rows, schema=RAW_SCHEMA), path)


@pytest.fixture
def packed(store: features.Store) -> dict[str, Any]:
    """The manifest of packed shards of this version."""
    tars = [("train-000000.tar", KEYS[0], KEYS[2]), ("val-000000.tar", KEYS[3], KEYS[-1])]
    records = [
        {"shard": {"file": file, "first_key": first, "last_key": last, "digest": f"of {file}"}}
        for file, first, last in tars
    ]
    content = {"store": digest_bytes(store.files.manifest), "records": records}
    (store.folder.parent / "packed").mkdir()
    (store.folder.parent / "packed" / "manifest.json").write_text(json.dumps(content))
    return content


@pytest.mark.usefixtures("ingested", "packed")
def test_lineage_goes_from_the_raw_file_to_the_row(store: features.Store) -> None:
    found = store.lineage("rec.0/0000~1")

    assert found["source"]["files"] == {
        "video": {"uri": "talks/a.mp4", "suffix": ".mp4", "offset": None, "size": 12, "digest": "abc"}
    }
    assert found["source"]["text"] == {"chars": 2, "digest": hashlib.sha256("né".encode()).hexdigest()}
    assert list(found["steps"]) == ["clean", "align", "augment", "embed"]
    assert found["steps"]["clean"] == STEPS["clean"]
    assert (found["sample"]["start_s"], found["sample"]["end_s"], found["sample"]["variant"]) == (1.0, 2.5, 1)
    assert found["packed"] == {
        "file": "train-000000.tar",
        "members": "rec%2E0/0000~1.*",
        "sha256": "of train-000000.tar",
    }
    assert (found["rejects"], found["version"]) == ([], None)


@pytest.mark.parametrize("key", KEYS)
def test_lineage_names_the_very_place_of_each_row(store: features.Store, key: str) -> None:
    found = store.lineage(key)
    for stored in (found["sample"]["stored"], found["views"]["image"]["stored"]):
        path = store.folder / stored["file"]
        row = pa.ipc.open_file(path).read_all().slice(stored["row"], 1).to_pylist()[0]
        assert row["key"] == key
        assert digest_file(path) == stored["sha256"]
    assert row["feature_key"] == found["views"]["image"]["feature_key"]
    assert found["views"]["image"]["present"] is (row["embedding"] is not None)


def test_lineage_of_an_original_leaves_out_what_it_did_not_pass(store: features.Store) -> None:
    assert list(store.lineage("rec.0/0000")["steps"]) == ["clean", "align", "embed"]


def test_lineage_without_the_project_tells_what_the_store_knows(store: features.Store) -> None:
    found = store.lineage("rec.0/0000")

    assert found["source"]["files"] is None
    assert found["source"]["uris"] == "rec.0/0000.mp4"
    assert found["source"]["digest"] == found["sample"]["source_digest"]
    assert found["packed"] is None


def test_lineage_does_not_take_packed_shards_of_another_version(store: features.Store, packed: dict[str, Any]) -> None:
    path = store.folder.parent / "packed" / "manifest.json"
    path.write_text(json.dumps({**packed, "store": "other"}))

    assert store.lineage("rec1/0000")["packed"] is None


@pytest.mark.usefixtures("packed")
def test_lineage_calls_members_as_pack_does(store: features.Store) -> None:
    key = "rec.0/0001"
    names = ("key", "group", "split", "label", "variant", "source", "recording", "start_s", "end_s", "meta", "text")
    sample = {name: store.lineage(key)["sample"].get(name) for name in names}
    media = dict.fromkeys(["image", "audio", "frames", "audio_start_s", "audio_drift_ppm", "words"])

    assert store.lineage(key)["packed"]["members"] == f"{packed_sample({**sample, **media}, {})['__key__']}.*"


def test_lineage_tells_what_was_lost_of_a_sample(store: features.Store) -> None:
    found = store.lineage("rec.0/0001")

    assert found["rejects"] == REJECTS[:1]
    assert found["views"]["image"]["present"] is False


@pytest.mark.usefixtures("ingested")
@pytest.mark.parametrize("key", ["rec2", "rec2/0003", "rec2/0003~1"])
def test_lineage_tells_why_a_sample_was_lost(store: features.Store, key: str) -> None:
    """Also of a segment that was never cut, since its recording was lost."""
    found = store.lineage(key)

    assert (found["sample"], found["steps"], found["views"], found["packed"]) == (None, {}, {}, None)
    assert found["rejects"] == REJECTS[1:2]
    assert found["source"]["files"]["video"]["digest"] == "abc"


def test_lineage_tells_what_is_odd_about_the_recording_beside_what_was_lost_of_a_segment(
    store: features.Store,
) -> None:
    assert store.lineage("rec1/0004")["rejects"] == [REJECTS[3], REJECTS[2]]
    assert store.lineage("rec1/0005")["rejects"] == [REJECTS[2]]


@pytest.mark.usefixtures("ingested")
def test_lineage_of_a_lost_segment_names_the_files_of_its_recording(store: features.Store) -> None:
    found = store.lineage("rec2/0001")

    assert [reject["reason"] for reject in found["rejects"]] == ["too_short", "truncated"]
    assert found["source"]["files"]["video"]["uri"] == "talks/a.mp4"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rec1/000", "lacks 1 of the keys: 'rec1/000', did you mean 'rec1/0"),
        ("rec1", "has no sample 'rec1', but parts of it: ask for 'rec1/0000'"),
        ("zzz", "lacks 1 of the keys: 'zzz'"),
    ],
)
def test_lineage_of_an_unknown_key_is_an_error(store: features.Store, key: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.lineage(key)

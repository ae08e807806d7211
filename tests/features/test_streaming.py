import gc
import io
import json
import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from building import build_store
from PIL import Image

import features
from features.errors import StoreError
from features.rev import digest_bytes
from features.store import Store

NUM_SHARDS, SHARD_SAMPLES = 5, 8

# webdataset leaves the tars that it has read to the garbage collector to close.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True, scope="module")
def _tars_closed() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return packed_store(tmp_path_factory.mktemp("data"))


def packed_store(data: Path) -> Store:
    """A store of 40 training samples, and beside it what pack makes of one: 5 shards."""
    keys = [f"rec{row:02}" for row in range(NUM_SHARDS * SHARD_SAMPLES)]
    vectors = [np.full(2, row, np.float16) for row in range(len(keys))]
    build_store(data / "features", [{"key": key} for key in keys], {"image": {"vectors": vectors}})
    store = features.open(data / "features")
    (data / "packed").mkdir()
    files = [f"train-{number:06d}.tar" for number in range(NUM_SHARDS)]
    for number, file in enumerate(files):
        with webdataset.TarWriter(str(data / "packed" / file), encoder=False) as tar:
            for row in range(number * SHARD_SAMPLES, (number + 1) * SHARD_SAMPLES):
                tar.write(members(keys[row], vectors[row]))
    records = [{"shard": {"file": file}} for file in files]
    content = {"records": records, "store": digest_bytes(store.files.manifest)}
    (data / "packed" / "manifest.json").write_text(json.dumps(content))
    return store


def members(key: str, vector: np.ndarray) -> dict[str, str | bytes]:
    picture, sound, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.new("RGB", (4, 3), (255, 0, 0)).save(picture, "PNG")
    soundfile.write(sound, np.full(100, 0.5), 16000, format="FLAC")
    np.save(array, vector)
    text = {"json": json.dumps({"key": key}).encode(), "txt": key.encode(), "mp4": b"film"}
    media = {"png": picture.getvalue(), "flac": sound.getvalue(), "image.npy": array.getvalue()}
    return {"__key__": key, **text, **media}


def keys_of(samples: Iterator[dict[str, bytes]]) -> list[str]:
    return [json.loads(sample["json"])["key"] for sample in samples]


def test_webdataset_without_shuffle_is_in_the_order_of_keys(store):
    assert keys_of(store.webdataset(shuffle=0)) == store.keys


def test_webdataset_order_is_that_of_seed_and_epoch(store):
    dataset = store.webdataset(seed=3)
    epochs = [keys_of(dataset) for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == store.keys
    assert epochs[0] != epochs[1]
    assert [keys_of(store.webdataset(seed=3, epoch=epoch)) for epoch in range(2)] == epochs
    assert keys_of(store.webdataset(seed=4)) not in epochs


def test_webdataset_shuffles_shards_also_where_few_samples_wait(store):
    firsts = {keys_of(islice(store.webdataset(shuffle=1, epoch=epoch), 1))[0] for epoch in range(8)}
    assert firsts <= set(store.keys[::SHARD_SAMPLES])
    assert len(firsts) > 1


def test_webdataset_is_decoded_when_asked(store):
    sample = next(iter(store.webdataset(shuffle=0, decode=True)))
    assert (sample["json"], sample["txt"], sample["mp4"]) == ({"key": "rec00"}, "rec00", b"film")
    assert sample["png"].tolist() == [[[255, 0, 0]] * 4] * 3
    assert sample["image.npy"].tolist() == [0, 0]
    wave_T, rate_hz = sample["flac"]
    assert (wave_T.dtype, wave_T.shape, rate_hz) == (np.float32, (100,), 16000)
    assert wave_T == pytest.approx(0.5, abs=1e-3)


def test_webdataset_can_be_composed_further_and_pickled(store):
    dataset = store.webdataset(shuffle=0).decode().to_tuple("txt", "image.npy").batched(16)
    for again in (dataset, pickle.loads(pickle.dumps(dataset))):
        batches = list(again)
        assert [len(texts) for texts, _ in batches] == [16, 16, 8]
        assert batches[1][1][0].tolist() == [16, 16]


def test_webdataset_is_shared_out_among_ranks_and_workers(store, monkeypatch):
    """Each sample once, over what the library takes for ranks and workers; another rank has other shards next time."""
    shares = {}
    for epoch in range(3):
        for rank in range(2):
            for worker in range(2):
                place = {"RANK": rank, "WORLD_SIZE": 2, "WORKER": worker, "NUM_WORKERS": 2}
                for name, value in place.items():
                    monkeypatch.setenv(name, str(value))
                shares[epoch, rank, worker] = keys_of(store.webdataset(epoch=epoch))
    for epoch in range(3):
        assert sorted(key for place, keys in shares.items() if place[0] == epoch for key in keys) == store.keys
    assert len({frozenset(shares[epoch, 0, 0]) for epoch in range(3)}) > 1


def test_webdataset_runs_in_worker_processes(store):
    loader = webdataset.WebLoader(store.webdataset(), batch_size=None, num_workers=2)
    assert sorted(keys_of(loader)) == store.keys


def test_webdataset_refuses_what_is_not_packed(store, tmp_path):
    with pytest.raises(StoreError, match="no shards of split 'trian'; it has train"):
        store.webdataset("trian")
    unpacked = tmp_path / "features"
    build_store(unpacked, [{"key": "rec0"}], {"image": {"vectors": [np.ones(2)]}})
    with pytest.raises(StoreError, match=r"packed holds no packed shards: run 'dvc pull' if .*, or 'dvc repro pack'$"):
        features.open(unpacked).webdataset()


def test_webdataset_refuses_shards_of_another_version(tmp_path):
    packed_store(tmp_path)
    build_store(tmp_path / "features", [{"key": "rec0"}], {"image": {"vectors": [np.ones(2)]}})
    with pytest.raises(StoreError, match=r"was packed from another version .*: run 'dvc repro pack'"):
        features.open(tmp_path / "features").webdataset()


def test_webdataset_tells_of_a_missing_shard(tmp_path):
    store = packed_store(tmp_path)
    (tmp_path / "packed" / "train-000003.tar").unlink()
    with pytest.raises(StoreError, match=r"lacks train-000003.tar: run 'dvc checkout"):
        store.webdataset()

import gc
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from building import build_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import features
from features import keys, nearest_rows, reading
from features.errors import PlaitError, ShardError, StoreError
from features.shards import read_shard
from features.store import Store

NUM_SAMPLES = 60
KEYS = [f"rec{row:02}" for row in range(NUM_SAMPLES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 samples in shards of 2 to 8; rows 0, 11, 22, .. lack the image, rows 0, 7, 14, .. the words."""
    folder = tmp_path_factory.mktemp("store")
    words = [None if row % 7 == 0 else np.full((row % 3, 2), row, np.float32) for row in range(NUM_SAMPLES)]
    times = [None if found is None else np.arange(2.0 * len(found)).reshape(-1, 2) for found in words]
    images = [None if row % 11 == 0 else np.arange(row, row + 4).astype(np.float16) for row in range(NUM_SAMPLES)]
    views = {"image": {"vectors": images}, "words": {"vectors": words, "times": times}}
    build_store(folder, [{"key": key, "text": f"text {key}"} for key in KEYS], views, shard_rows=2)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return features.open(folder)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def _file(store: Store, view: str, index: int) -> Path:
    return store.folder / view / store.views[view].files[store.manifest.shards[index].name]


def test_scan_gives_what_get_gives(store: Store) -> None:
    scanned = list(store.scan("image"))

    assert len(scanned) == len(store.manifest.shards) > 5
    assert np.array_equal(np.concatenate(scanned), store.get(KEYS, "image"), equal_nan=True)


def test_scan_copies_nothing(store: Store) -> None:
    addresses = [[vectors_ND.ctypes.data for vectors_ND in store.scan("image")] for _ in range(2)]

    assert addresses[0] == addresses[1]


def test_scan_refuses_a_view_of_sequences_at_once(store: Store) -> None:
    with pytest.raises(StoreError, match=r"get_sequences\(\)"):
        store.scan("words")


@pytest.mark.parametrize("asked", [tuple(KEYS[:30]), np.array(KEYS[:30]), KEYS[:3]])
def test_get_takes_any_sequence_of_texts(store: Store, asked: object) -> None:
    assert store.get(asked, "image").shape == (len(asked), 4)
    assert store.get(asked[:0], "image").shape == (0, 4)


def test_get_reads_the_files_of_the_view_alone(copied: Path) -> None:
    shutil.rmtree(copied / "samples")
    shutil.rmtree(copied / "words")

    assert features.open(copied).get(KEYS[1:], "image")[:, 0].tolist()[:3] == [1, 2, 3]


@pytest.mark.parametrize("row", [-1, NUM_SAMPLES])
def test_gather_refuses_a_row_outside_the_store(store: Store, row: int) -> None:
    with pytest.raises(IndexError):
        store.reader.gather("image", np.array([0, row]))


@pytest.mark.parametrize("dtype", ["uint32", "int8", "uint8"])
def test_gather_takes_rows_of_any_whole_type(store: Store, dtype: str) -> None:
    rows_N = np.arange(NUM_SAMPLES - 1, 0, -11)

    found = store.reader.gather("image", rows_N.astype(dtype))  # their places in memory are too large for the type
    assert np.array_equal(found, store.reader.gather("image", rows_N), equal_nan=True)


def test_key_at_is_the_inverse_of_locate(store: Store) -> None:
    assert [store.reader.key_at(row) for row in store.reader.locate(KEYS)] == KEYS


def test_pickled_store_and_reader_open_the_same_version(copied: Path) -> None:
    store = features.open(copied)
    store.get(KEYS, "image")
    pickled = pickle.dumps([store, store.reader])
    other_store, other_reader = pickle.loads(pickled)

    assert np.array_equal(other_store.get(KEYS, "image"), store.get(KEYS, "image"), equal_nan=True)
    assert other_reader.key_at(5) == KEYS[5]

    (copied / "manifest.json").write_bytes((copied / "manifest.json").read_bytes() + b" ")
    with pytest.raises(StoreError, match="has a newer version"):
        pickle.loads(pickled)


def test_threads_that_open_shards_at_once_get_the_same(folder: Path) -> None:
    store = features.open(folder)
    parts = [KEYS[start::6] for start in range(6)] * 5

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda keys: store.get(keys, "image"), parts))

    whole = features.open(folder).get(KEYS, "image")
    for start, vectors_ND in enumerate(found):
        assert np.array_equal(vectors_ND, whole[start % 6 :: 6], equal_nan=True)


def test_store_names_a_shard_that_holds_other_keys(copied: Path) -> None:
    store = features.open(copied)
    shards = store.manifest.shards
    first, second = next(
        (a, b)
        for a in range(len(shards))
        for b in range(a + 1, len(shards))
        if shards[a].num_rows == shards[b].num_rows
    )
    shutil.copy(_file(store, "image", second), _file(store, "image", first))

    said = f"goes from '{shards[second].first_key}' to '.*', the manifest says from '{shards[first].first_key}' to"
    with pytest.raises(ShardError, match=said):
        store.get([shards[first].first_key], "image")


def test_files_that_find_no_room_in_memory_name_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "huge.arrow"
    path.touch()
    os.truncate(path, 1 << 40)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (1 << 36), hard))
    try:
        with pytest.raises(StoreError, match=r"cannot be mapped .* vm\.max_map_count .* embed\.shard_samples"):
            read_shard(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_few_files_stay_mapped_whatever_is_asked(copied: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_MAPS", 4)
    monkeypatch.setattr(reading, "_KEPT_KEYS", 2)
    monkeypatch.setattr(reading, "_KEPT_SAMPLES", 2)
    monkeypatch.setattr(reading, "_KEPT_COLUMNS", 2)
    monkeypatch.setattr(nearest_rows, "_KEPT_TENSORS", 2)
    monkeypatch.setattr(nearest_rows, "_LOOP_PAYS_OFF", 0)
    monkeypatch.setattr(keys, "_FEW", 60)  # so that keys are searched for at first, and found in tables then
    bounded, whole = features.open(copied), store.get(KEYS, "image")
    expected = store.nearest("image", [1.0, 2, 3, 5], k=20)

    for seed in range(6):
        order = np.random.default_rng(seed).permutation(NUM_SAMPLES)
        for rows in np.split(order, [1, 3, 30]):
            found = bounded.get([KEYS[row] for row in rows], "image")
            assert np.array_equal(found, whole[rows], equal_nan=True)
        assert bounded.nearest("image", [1.0, 2, 3, 5], k=20).equals(expected)
        assert Path("/proc/self/maps").read_text().count(f"{copied}/image/") < len(store.manifest.shards) / 2


def test_files_stay_mapped_no_longer_than_shards_are_gone_over(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_KEPT_SAMPLES", 2)
    opened = features.open(copied)

    opened.rows(split="train", where="key > 'rec1'")
    opened.sql("select avg(image[1]), count(words) from samples")
    opened.batches(["image"], split=None)
    for _ in opened.align_batches(["words"], to="word"):
        pass
    gc.collect()

    assert f"{copied}/" not in Path("/proc/self/maps").read_text()


def _ask(store: Store) -> Iterator[object]:
    """What reads every byte of a store in every way, each as a call."""
    yield lambda: store.get(KEYS, "image")
    yield lambda: store.get(KEYS[:1], "image")
    yield lambda: list(store.scan("image"))
    yield lambda: store.get_sequences(KEYS, "words")
    yield lambda: store.table(["image", "words"]).to_pylist()
    yield lambda: store.table(["image"], split="train").to_pylist()
    yield lambda: store.sql("select *, array_cosine_similarity(image, image) from samples where key > 'rec2'")


@given(st.sampled_from(["samples", "image", "words"]), st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_shards_give_rows_or_an_error_of_ours(copied: Path, part: str, data: st.DataObject) -> None:
    path = min((copied / part).iterdir())
    sound = path.read_bytes()
    place = data.draw(st.integers(0, len(sound) - 1))
    flipped = bytes([sound[place] ^ data.draw(st.integers(1, 255))])
    path.write_bytes(data.draw(st.sampled_from([sound[:place], sound[:place] + flipped + sound[place + 1 :]])))
    try:
        for ask in _ask(features.open(copied)):
            with suppress(PlaitError):
                ask()
    finally:
        path.write_bytes(sound)


def test_reading_vectors_imports_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys, features; s = features.open(sys.argv[1]); s.get(['rec01'], 'image'); list(s.scan('image'));"
        "print(sorted({'apache_beam', 'prefect', 'dvc', 'torch', 'pandas', 'duckdb'} & set(sys.modules)))"
    )
    root = Path(features.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"

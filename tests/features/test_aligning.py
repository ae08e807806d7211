import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from building import build_store

import features
from features.alignment import align_intervals
from features.errors import ShardError, StoreError
from features.intervals import Intervals
from features.store import Store

NUM = 21
KEYS = [f"rec{row // 3}/{row % 3}" for row in range(NUM)]
ABSENT = {4, 5, 20}  # have no audio
WORDLESS = {7}
UNCLOCKED = {2}  # of the tokens


def frames(rate_hz: float, duration_s: float) -> np.ndarray:
    edges = np.arange(round(rate_hz * duration_s) + 1) / rate_hz
    return np.stack([edges[:-1], edges[1:]], axis=1)


def words_of(row: int) -> list[dict] | None:
    """Two words with a gap between, on the recording's timeline, on which the sample starts at 10 * row."""
    spans = [(0.0, 0.4 + row / 100, "so"), (1.0, 2.0, "it")]
    shifted = [{"start_s": 10.0 * row + start, "end_s": 10.0 * row + end, "text": text} for start, end, text in spans]
    return None if row in WORDLESS else shifted


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Samples of 2.5 s in several shards: audio at 10 Hz, video at 4 Hz, tokens at the words and a vector an image."""
    rng = np.random.default_rng(0)
    samples = [
        {"key": key, "text": "so it", "start_s": 10.0 * row, "end_s": 10.0 * row + 2.5, "words": words_of(row)}
        | {"split": "test" if row >= 18 else "train"}
        for row, key in enumerate(KEYS)
    ]
    sound = [None if row in ABSENT else rng.integers(-99, 99, (25, 3)).astype(np.float16) for row in range(NUM)]
    tokens = [np.array([[row, 0], [row, 1]], np.float32) for row in range(NUM)]
    token_times = [np.array([[0, 0.4], [0, 0.4]]) + (np.nan if row in UNCLOCKED else 0) for row in range(NUM)]
    views = {
        "audio": {"vectors": sound, "times": [None if v is None else frames(10, 2.5) for v in sound]},
        "video": {
            "vectors": [rng.integers(-9, 9, (10, 2)).astype(np.float32) for _ in range(NUM)],
            "times": [frames(4, 2.5)] * NUM,
            "dtype": "float32",
        },
        "tokens": {"vectors": tokens, "times": token_times, "dtype": "float32", "input": "text"},
        "image": {"vectors": [None if row == 3 else np.full(4, row) for row in range(NUM)]},
    }
    folder = tmp_path_factory.mktemp("store")
    build_store(folder, samples, views, shard_rows=4)
    return folder


@pytest.fixture(scope="module")
def store(folder) -> Store:
    return features.open(folder)


def alone(store: Store, key: str, view: str, times, how="mean") -> np.ndarray:
    encoded = store.get_sequences([key], view)[0]
    return align_intervals(encoded.vectors_TD, Intervals.ragged([encoded.times_T2]), Intervals.ragged([times]), how)[0]


def test_align_to_words_takes_each_key_as_it_is_asked(store):
    keys = [KEYS[row] for row in (20, 3, 7, 0, 1, 3)]
    aligned = store.align(keys, ["audio", "video"], to="word")
    assert aligned.keys == keys
    assert aligned.offsets.tolist() == [0, 2, 4, 4, 6, 8, 10]
    assert aligned.words.to_pylist() == ["so", "it"] * 5
    assert aligned.times[2:4] == pytest.approx(np.array([[0, 0.43], [1, 2]]))
    for place, key in enumerate(keys):
        one = aligned[place]
        assert np.array_equal(one.values["video"], alone(store, key, "video", one.times))
    assert not aligned.masks["audio"][:2].any()
    assert np.isnan(aligned.values["audio"][:2]).all()
    assert aligned.masks["audio"][2:].all()


def test_align_to_segments_gives_one_vector_a_sample(store):
    aligned = store.align(KEYS[:4], ["video", "image"], to="segment")
    assert aligned.times.tolist() == [[0, 2.5]] * 4
    pooled = [encoded.vectors_TD.mean(axis=0) for encoded in store.get_sequences(KEYS[:4], "video")]
    assert aligned.values["video"] == pytest.approx(np.array(pooled), rel=1e-6)
    assert np.array_equal(aligned.values["image"][:, 0], [0, 1, 2, np.nan], equal_nan=True)
    assert aligned.masks["image"].tolist() == [True, True, True, False]


def test_align_to_a_rate_covers_each_sample(store):
    aligned = store.align(KEYS[:2], ["audio"], to=2)
    assert aligned[0].times.tolist() == [[0, 0.5], [0.5, 1], [1, 1.5], [1.5, 2], [2, 2.5]]
    assert np.array_equal(aligned[1].values["audio"], alone(store, KEYS[1], "audio", aligned[1].times))
    assert store.align(KEYS[:1], ["audio"], to=0.7).times[-1].tolist() == [1 / 0.7, 2.5]
    with pytest.raises(
        StoreError, match=r"1e\+12 hertz would make 2.5e\+12 windows of 1 keys, above 100,000,000: choose"
    ):
        store.align(KEYS[:1], ["audio"], to=1e12)


def test_align_to_a_view_leaves_that_view_as_it_is(store):
    aligned = store.align(
        KEYS[3:6], ["tokens", "audio", "video"], to="tokens", how={"audio": "max", "video": "nearest"}
    )
    assert aligned.values["tokens"].tolist() == [[3, 0], [3, 1], [4, 0], [4, 1], [5, 0], [5, 1]]
    assert aligned.masks["tokens"].all()
    assert aligned.masks["audio"].tolist() == [True, True, False, False, False, False]
    audio, video = (store.get_sequences(KEYS[3:4], view)[0].vectors_TD for view in ("audio", "video"))
    assert aligned.values["audio"][0].tolist() == audio[:4].max(axis=0).tolist()
    assert aligned.values["video"][0].tolist() == video[0].tolist()


def test_align_to_own_intervals(store):
    times = [np.array([[0, 1], [0.5, 1.5]]), np.empty((0, 2)), np.array([[2, 9]])]
    expected = store.align(KEYS[:3], ["video"], to=times)
    assert [one.values["video"].shape for one in expected] == [(2, 2), (0, 2), (1, 2)]
    pairs = pa.array([part.tolist() for part in times], pa.list_(pa.list_(pa.float64(), 2)))
    for to in (pairs, pa.array([part.tolist() for part in times]), Intervals.ragged(times)):
        assert np.array_equal(store.align(KEYS[:3], ["video"], to=to).values["video"], expected.values["video"])
    same = np.array([[[0, 1], [0.5, 1.5]]] * 2)
    assert np.array_equal(store.align(KEYS[:2], ["video"], to=same)[0].values["video"], expected[0].values["video"])
    with pytest.raises(ValueError, match="give lists of structs with start_s and end_s, or of pairs"):
        store.align(KEYS[:1], ["video"], to=pa.array([[[0.0, 1.0, 2.0]]]))
    with pytest.raises(ValueError, match="intervals of 3 samples are given for 2 keys"):
        store.align(KEYS[:2], ["video"], to=times)


@pytest.mark.parametrize("to", ["word", "segment", "tokens", 3.0])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_align_batches_gives_what_align_gives(store, to, batch_size):
    views = ["audio", "image", "tokens"]
    whole = store.align(KEYS, views, to=to)
    batches = list(store.align_batches(views, to=to, batch_size=batch_size))
    assert [key for batch in batches for key in batch.keys] == KEYS
    for name in views:
        together = np.concatenate([batch.values[name] for batch in batches])
        assert together.tobytes() == whole.values[name].tobytes()
        assert np.array_equal(np.concatenate([batch.masks[name] for batch in batches]), whole.masks[name])


def test_align_batches_takes_a_split_and_a_condition(store):
    (batch,) = store.align_batches(["audio"], to="word", split="test", where="key <> 'rec6/1'")
    assert batch.keys == ["rec6/0", "rec6/2"]
    assert list(store.align_batches(["audio"], to="word", where="false")) == []


def test_align_batches_lets_go_of_the_shards_it_has_read(tmp_path):
    samples = [{"key": f"{row:02}", "text": ""} for row in range(60)]
    view = {"vectors": [np.ones((1, 2))] * 60, "times": [np.array([[0.0, 1.0]])] * 60}
    build_store(tmp_path, samples, {"video": view}, shard_rows=1)
    store = features.open(tmp_path)
    for _ in store.align_batches(["video"], to="segment", batch_size=2):
        num_mapped = len(set(re.findall(rf"{tmp_path}/video/\S+", Path("/proc/self/maps").read_text())))
        assert 1 <= num_mapped < len(store.reader.shards) / 2


def test_align_of_no_keys(store):
    for to in ("word", "segment", "video", 5, []):
        aligned = store.align([], ["audio", "image"], to=to)
        assert aligned.values["audio"].shape == (0, 3)
        assert aligned.to_arrow().num_rows == 0
        assert aligned.padded().values["image"].shape == (0, 0, 4)


def test_a_view_without_any_time_is_no_view_of_zeros(store):
    with pytest.raises(StoreError, match=r"view 'tokens' keeps no times for these keys.*leave it out"):
        store.align([KEYS[2]], ["tokens"], to="word")
    assert store.align(KEYS[2:4], ["tokens"], to="word").masks["tokens"].tolist() == [False, False, True, False]


def test_a_sample_without_a_timeline_is_one_segment(tmp_path):
    build_store(tmp_path, [{"key": "a", "text": "caption"}], {"image": {"vectors": [np.ones(2)]}})
    store = features.open(tmp_path)
    aligned = store.align(["a"], ["image"], to="segment")
    assert np.isnan(aligned.times).all()
    assert (aligned.values["image"].tolist(), aligned.masks["image"].tolist()) == ([[1, 1]], [True])
    assert len(store.align(["a"], ["image"], to="word").times) == len(store.align(["a"], ["image"], to=5).times) == 0


def test_align_says_what_there_is(store):
    with pytest.raises(
        StoreError, match=r"'wrod' is no time base of .*did you mean 'word'\?; there are word, segment, "
    ):
        store.align(KEYS, ["audio"], to="wrod")
    with pytest.raises(StoreError, match="'image' is no time base"):
        store.align(KEYS, ["audio"], to="image")
    with pytest.raises(StoreError, match="has no view 'sound'"):
        store.align(KEYS, ["sound"], to="word")
    with pytest.raises(StoreError, match="views is the text 'audio'; pass a list of views"):
        store.align(KEYS, "audio", to="word")
    with pytest.raises(StoreError, match="nope"):
        store.align(["nope"], ["audio"], to="word")
    for how in ("median", {"video": "max"}, {"audio": "median"}):
        with pytest.raises(ValueError, match="it must be one of mean, unweighted, max, nearest, linear, or a mapping"):
            store.align(KEYS, ["audio"], to="word", how=how)
    with pytest.raises(ValueError, match="batch_size is 0"):
        store.align_batches(["audio"], to="word", batch_size=0)


def test_intervals_that_end_before_they_start_are_damage(tmp_path):
    view = {"vectors": [np.ones((1, 2))], "times": [np.array([[2.0, 1.0]])]}
    build_store(tmp_path, [{"key": "a", "text": ""}], {"video": view})
    with pytest.raises(
        ShardError, match=r"video/.*arrow: interval 0 of sample 0 goes from 2.0 s to 1.0 s.*plait check"
    ):
        features.open(tmp_path).align(["a"], ["video"], to=[[[0, 1]]])

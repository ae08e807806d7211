import pickle
import subprocess
import sys
from itertools import zip_longest

import numpy as np
import pytest
from building import build_store
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_store import NUM_SAMPLES, loader_store

import features
from features.errors import StoreError
from features.loader import Batches
from features.store import Store

SIZES = st.integers(1, 12)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return loader_store(tmp_path_factory.mktemp("store"))


def ranks(store: Store, batch_size: int, world_size: int, *, seed: int = 0) -> list[Batches]:
    return [
        store.batches([], batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]


def run_epoch(loaders: list[Batches]) -> list[list[list[str]]]:
    """Keys by step and rank; every rank must have the same number of steps."""
    return [[batch["key"] for batch in step] for step in zip(*loaders, strict=True)]


def flatten(steps: list[list[list[str]]]) -> list[str]:
    return [key for step in steps for batch in step for key in batch]


def test_batches_carry_vectors_presence_and_labels(store):
    batches = list(store.batches(["image"], batch_size=20, shuffle=False))
    assert [len(batch["key"]) for batch in batches] == [20, 20, 10]
    first = batches[0]
    assert first["key"][:2] == ["rec000", "rec001"]
    assert first["label"][:5] == ["a", "b", "a", "b", None]
    assert first["image"].dtype == np.float32
    assert first["image"][:4].tolist() == [[0, 0], [1, 1], [2, 2], [0, 0]]
    assert first["image_present"][:4].tolist() == [False, True, True, False]


def test_batches_keep_rows_together_when_shuffled(store):
    for batch in store.batches(["image"], batch_size=7):
        rows = np.array([int(key[3:]) for key in batch["key"]])
        present = rows % 3 != 0
        assert batch["image_present"].tolist() == present.tolist()
        assert batch["image"][:, 1].tolist() == np.where(present, rows, 0).tolist()


@given(batch_size=SIZES, world_size=st.integers(1, 70))
@settings(max_examples=40)
def test_batches_give_every_sample_once_across_ranks(store, batch_size, world_size):
    loaders = ranks(store, batch_size, world_size)
    steps = run_epoch(loaders)
    assert sorted(flatten(steps)) == store.keys[:NUM_SAMPLES]
    assert len(steps) == len(loaders[0])
    sizes = [len(batch) for step in steps for batch in step]
    assert max(sizes) <= batch_size
    assert min(sizes) >= (1 if world_size <= NUM_SAMPLES and batch_size > 1 else 0)


@given(batch_size=SIZES, world_size=st.integers(1, 5))
@settings(max_examples=20)
def test_batches_order_depends_on_seed_and_epoch_alone(store, batch_size, world_size):
    reference = store.batches([], batch_size=1, seed=3)
    loaders = ranks(store, batch_size, world_size, seed=3)
    for _ in range(2):
        expected = [batch["key"][0] for batch in reference]
        assert flatten(run_epoch(loaders)) == expected


def test_batches_differ_between_epochs_and_seeds(store):
    loader = store.batches([], batch_size=NUM_SAMPLES, seed=1)
    orders = [next(iter(one))["key"] for one in (store.batches([], batch_size=NUM_SAMPLES, seed=2),)]
    orders += [batch["key"] for _ in range(2) for batch in loader]
    assert len({tuple(order) for order in orders}) == 3


@given(batch_size=SIZES, world_size=st.integers(1, 4), data=st.data())
@settings(max_examples=40)
def test_batches_resume_as_if_never_interrupted(store, batch_size, world_size, data):
    whole = run_epoch(ranks(store, batch_size, world_size))
    num_done = data.draw(st.integers(1, len(whole)))
    stopped = ranks(store, batch_size, world_size)
    iterators = [iter(loader) for loader in stopped]
    done = [[next(iterator)["key"] for iterator in iterators] for _ in range(num_done)]
    assert done == whole[:num_done]
    states = [loader.state_dict() for loader in stopped]
    assert all(state == states[0] for state in states)
    resumed = ranks(store, batch_size, world_size)
    for loader in resumed:
        loader.load_state_dict(states[0])
    assert run_epoch(resumed) == whole[num_done:]
    after = ranks(store, batch_size, world_size)
    run_epoch(after)
    assert run_epoch(resumed) == run_epoch(after)


@given(worlds=st.lists(st.integers(1, 9), min_size=1, max_size=4), batch_size=SIZES)
@settings(max_examples=40)
def test_batches_resume_with_another_world_size(store, worlds, batch_size):
    seen: list[str] = []
    state = store.batches([]).state_dict()
    for world_size in worlds:
        loaders = ranks(store, batch_size, world_size)
        for loader in loaders:
            loader.load_state_dict(state)
        step = [next(iterator, None) for iterator in [iter(loader) for loader in loaders]]
        seen += [key for batch in step if batch is not None for key in batch["key"]]
        if step[0] is None:
            break
        state = loaders[0].state_dict()
    else:
        rest = store.batches([], batch_size=batch_size)
        rest.load_state_dict(state)
        seen += flatten(run_epoch([rest]))
    assert sorted(seen) == store.keys[:NUM_SAMPLES]


def test_batches_start_an_epoch_anew_after_a_look_at_it(store):
    loader = store.batches([], batch_size=8)
    first = next(iter(loader))["key"]
    assert next(iter(loader))["key"] == first
    assert len(list(loader)) == len(loader)


def test_batches_of_an_empty_split_end_at_once(store):
    loader = store.batches(["image"], split="test")
    assert (len(loader), list(loader)) == (0, [])


def test_batches_take_a_condition(store):
    loader = store.batches(["image"], where="image is not null and label = 'a'")
    assert all(batch["image_present"].all() and set(batch["label"]) == {"a"} for batch in loader)


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "val"}, {"where": "label = 'a'"}, {"shuffle": False}])
def test_load_state_dict_refuses_a_state_of_other_samples(store, other):
    with pytest.raises(StoreError, match="resume with"):
        store.batches([], **other).load_state_dict(store.batches([]).state_dict())


@pytest.mark.parametrize("part", [{"position": -1}, {"position": NUM_SAMPLES + 1}, {"position": "3"}, {"epoch": None}])
def test_load_state_dict_refuses_what_is_no_state(store, part):
    loader = store.batches([])
    saved = loader.state_dict()
    with pytest.raises(StoreError, match=f"a position is from 0 to {NUM_SAMPLES}: pass what state_dict"):
        loader.load_state_dict({**saved, **part})
    with pytest.raises(StoreError, match="the loader's state has seed None, this loader 0"):
        loader.load_state_dict({})
    assert loader.state_dict() == saved


def test_batches_refuse_dtypes_and_views_that_cannot_be(store):
    with pytest.raises(ValueError, match="'int8' is none of"):
        store.batches([], dtype="int8")
    with pytest.raises(StoreError, match="no view 'imag', did you mean 'image'"):
        store.batches(["imag"])
    with pytest.raises(StoreError, match="views is the text 'image'; pass a list of views"):
        store.batches("image")
    with pytest.raises(StoreError, match="'image' twice"):
        store.batches(["image", "image"])


def test_batches_keep_the_stored_dtype_when_asked(store):
    for dtype, expected in ((None, np.float16), ("float16", np.float16), ("float32", np.float32)):
        for batch in store.batches(["image"], dtype=dtype, batch_size=20, shuffle=False):
            assert batch["image"].dtype == expected
            assert batch["image"][~batch["image_present"]].sum() == 0


def test_batches_pad_sequences_with_mask_and_intervals(store):
    first, *_ = store.batches(["frames"], batch_size=6, shuffle=False)
    assert first["frames_present"].tolist() == [False, True, True, True, True, False]
    assert first["frames_mask"].sum(1).tolist() == [0, 1, 2, 3, 4, 0]
    assert first["frames"].shape == (6, 4, 3)
    assert first["frames"].dtype == np.float32
    assert first["frames"][:, :, 0].tolist() == [[row] * row + [0] * (4 - row) for row in (0, 1, 2, 3, 4, 0)]
    assert first["frames_times_s"].shape == (6, 4, 2)
    assert first["frames_times_s"][3].tolist() == [[0, 0.5], [1, 1.5], [2, 2.5], [0, 0]]


def test_batches_of_absent_sequences_have_no_time(store):
    (batch,) = store.batches(["frames"], where="key = 'rec000'")
    assert batch["frames"].shape == (1, 0, 3)
    assert batch["frames_mask"].shape == (1, 0)


def test_batches_have_empty_arrays_where_samples_do_not_reach_a_rank(store):
    loader = store.batches(["image", "frames"], where="key < 'rec002'", batch_size=1, rank=0, world_size=3)
    (batch,) = loader
    assert (batch["key"], batch["image"].shape, batch["frames"].shape) == ([], (0, 2), (0, 0, 3))


def test_batches_are_pickled_without_the_store(store):
    loader = store.batches(["image", "frames"], batch_size=7)
    again = pickle.loads(pickle.dumps(loader))
    for batch, other in zip(loader, again, strict=True):
        assert batch.keys() == other.keys()
        for name, part in batch.items():
            np.testing.assert_array_equal(part, other[name])


@given(batch_size=SIZES, num_workers=st.integers(1, 9), epoch=st.integers(0, 3), data=st.data())
@settings(max_examples=40)
def test_batches_of_workers_asked_in_turn_are_those_of_one(store, batch_size, num_workers, epoch, data):
    loader = store.batches([], batch_size=batch_size)
    position = data.draw(st.integers(0, NUM_SAMPLES))
    shares = [loader.rows(epoch, position, worker=worker, num_workers=num_workers) for worker in range(num_workers)]
    in_turn = [rows_N.tolist() for rows in zip_longest(*shares) for rows_N in rows if rows_N is not None]
    assert in_turn == [rows_N.tolist() for rows_N in loader.rows(epoch, position)]


def test_load_state_dict_refuses_a_state_of_another_version(store, tmp_path):
    states = []
    for name, label, value in (("first", "a", 1), ("labels", "b", 1), ("vectors", "a", 2)):
        build_store(
            tmp_path / name, [{"key": "rec0", "label": label}], {"image": {"vectors": [np.full(2, value, np.float16)]}}
        )
        states.append(features.open(tmp_path / name).batches(["image"]).state_dict())
    loader = features.open(tmp_path / "first").batches(["image"])
    loader.load_state_dict(states[0])
    for state in states[1:]:
        with pytest.raises(StoreError, match="resume with the store version"):
            loader.load_state_dict(state)


def test_features_import_no_torch_beam_prefect_or_dvc():
    code = "import sys, features; print(sorted({'torch', 'apache_beam', 'prefect', 'dvc'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

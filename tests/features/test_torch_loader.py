import pickle
from collections.abc import Iterable
from itertools import chain, islice

import numpy as np
import pytest
import torch
from building import build_store
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_store import NUM_SAMPLES, loader_store
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import DataLoader, IterableDataset

import features
from features.errors import ShardError, StoreError
from features.loader import Batch, Batches
from features.store import Store

VIEWS = ["image", "frames"]
SIZES = st.integers(1, 12)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return loader_store(tmp_path_factory.mktemp("store"))


def keys_of(batches: Iterable[Batch]) -> list[list[str]]:
    return [batch["key"] for batch in batches]


def batches_at(store: Store, views: list[str], *, batch_size: int, epoch: int, position: int = 0) -> Batches:
    batches = store.batches(views, batch_size=batch_size)
    batches.load_state_dict({**batches.state_dict(), "epoch": epoch, "position": position})
    return batches


def assert_same(tensors: Iterable[Batch], arrays: Iterable[Batch]) -> None:
    for batch, expected in zip(tensors, arrays, strict=True):
        assert batch.keys() == expected.keys()
        for name, part in expected.items():
            if isinstance(part, np.ndarray):
                assert torch.equal(batch[name], torch.from_numpy(part)), name
                assert batch[name].dtype == torch.from_numpy(part).dtype
            else:
                assert batch[name] == part


@pytest.mark.parametrize(
    ("num_workers", "batch_size", "dtype"),
    [(0, 7, "float32"), (1, 7, None), (2, 7, "float32"), (2, 24, "float16"), (2, 99, None)],
)
def test_loader_gives_the_arrays_of_batches_with_any_number_of_workers(store, num_workers, batch_size, dtype):
    """Also over several epochs, which the workers live through, and with more workers than steps."""
    batches = store.batches(VIEWS, batch_size=batch_size, dtype=dtype)
    loader = store.batches(VIEWS, batch_size=batch_size, dtype=dtype).loader(num_workers=num_workers)
    assert len(loader) == len(batches)
    for epoch in range(3):
        assert loader.epoch == epoch
        assert_same(loader, batches)


def test_loader_with_workers_keeps_batches_that_it_handed_out(store):
    """The workers write on into memory that they share with the loader; what was handed out is not in it."""
    handed_out = list(store.batches(VIEWS, batch_size=4).loader(num_workers=2))
    assert_same(handed_out, store.batches(VIEWS, batch_size=4))


def test_loader_starts_an_epoch_anew_after_a_look_at_it(store):
    loader = store.batches([], batch_size=4).loader(num_workers=2)
    first = keys_of(islice(loader, 3))
    assert keys_of(loader)[:3] == first
    assert loader.epoch == 1


@pytest.mark.parametrize(("num_workers", "num_after"), [(2, 0), (0, 2), (2, 1)])
def test_loader_state_is_what_was_handed_out_and_not_what_was_read_ahead(store, num_workers, num_after):
    loader = store.batches([], batch_size=3).loader(num_workers=num_workers)
    whole = keys_of(loader)
    begun = keys_of(islice(loader, 2))
    state = loader.state_dict()
    assert (state["epoch"], state["position"]) == (1, 6)
    resumed = store.batches([], batch_size=5).loader(num_workers=num_after)
    resumed.load_state_dict(state)
    seen = [*begun, *keys_of(resumed)]
    assert list(chain(*seen)) != list(chain(*whole))
    assert sorted(chain(*seen)) == store.keys[:NUM_SAMPLES]
    assert_same(resumed, batches_at(store, [], batch_size=5, epoch=2))


@given(sizes=st.lists(st.tuples(SIZES, st.integers(1, 6)), min_size=2, max_size=4), num_steps=st.integers(0, 3))
@settings(max_examples=20)
def test_loader_resumes_with_other_sizes_and_gives_every_sample_once(store, sizes, num_steps):
    """Stopped after a few steps of each size, the rest is of the last; all ranks have equally many steps."""
    seen: list[str] = []
    state = None
    for number, (batch_size, world_size) in enumerate(sizes):
        num_taken = num_steps if number < len(sizes) - 1 else None
        loaders = [
            store.batches([], batch_size=batch_size, rank=rank, world_size=world_size).loader()
            for rank in range(world_size)
        ]
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
        of_ranks = [keys_of(islice(loader, num_taken)) for loader in loaders]
        assert len({len(steps) for steps in of_ranks}) == 1
        seen += [key for steps in of_ranks for keys in steps for key in keys]
        state = loaders[0].state_dict()
        if state["epoch"]:
            break
    assert sorted(seen) == store.keys[:NUM_SAMPLES]


def test_loader_refuses_a_state_of_other_samples(store):
    state = store.batches([]).loader().state_dict()
    with pytest.raises(StoreError, match="resume with"):
        store.batches([], seed=1).loader().load_state_dict(state)


def test_loader_raises_what_a_worker_raised(tmp_path):
    build_store(tmp_path, [{"key": f"rec{row}"} for row in range(9)], {"image": {"vectors": [np.ones(2)] * 9}})
    loader = features.open(tmp_path).batches(["image"]).loader(num_workers=1)
    next((tmp_path / "image").iterdir()).unlink()
    with pytest.raises(ShardError, match="is in the manifest but not on disk"):
        list(loader)


def test_torch_is_an_iterable_dataset_for_a_data_loader_of_ones_own(store):
    """Workers that live on learn of the next epoch, and a pass that nobody named an epoch for is the same again."""
    dataset = store.batches(VIEWS, batch_size=6).torch()
    assert isinstance(dataset, IterableDataset)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    expected = store.batches(VIEWS, batch_size=6)
    assert len(loader) == len(expected)
    assert keys_of(loader) == keys_of(dataset)
    assert_same(loader, expected)
    dataset.set_epoch(1)
    assert_same(loader, expected)


def test_torch_begins_at_a_state(store):
    batches = batches_at(store, [], batch_size=6, epoch=4, position=12)
    expected = keys_of(batches_at(store, [], batch_size=6, epoch=4))[2:]
    assert keys_of(batches.torch()) == expected
    dataset = store.batches([], batch_size=6).torch()
    dataset.set_epoch(4, 12)
    assert keys_of(dataset) == expected


def test_torch_is_pickled_for_workers_that_are_spawned(store):
    dataset = store.batches(VIEWS, batch_size=6).torch()
    dataset.set_epoch(2)
    assert_same(pickle.loads(pickle.dumps(dataset)), batches_at(store, VIEWS, batch_size=6, epoch=2))


def test_loader_takes_its_rank_from_torch_unless_one_is_named(store):
    distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        of_torch = keys_of(store.batches([], batch_size=6).loader())
        named = keys_of(store.batches([], batch_size=6, rank=0, world_size=3).torch())
    finally:
        distributed.destroy_process_group()
    assert of_torch == keys_of(store.batches([], batch_size=6, rank=1, world_size=2))
    assert named == keys_of(store.batches([], batch_size=6, rank=0, world_size=3))

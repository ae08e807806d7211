import resource
import tracemalloc
from collections.abc import Iterator
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import paging
from features.key_tables import KeyTables
from features.paging import PagedTexts, paged, paged_zeros

LENGTHS = st.lists(st.integers(0, 40_000), max_size=6)
TEXTS = st.lists(st.lists(st.none() | st.text(max_size=9), max_size=5), max_size=5)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_SMALL_BYTES", 4)


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file takes more than 100,000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@given(LENGTHS, st.sampled_from(["uint8", "int64", "float32"]))
def test_paged_is_the_blocks_one_after_the_other(lengths: list[int], dtype: str) -> None:
    whole = np.arange(sum(lengths)).astype(dtype)

    array = paged(np.split(whole, np.cumsum(lengths)), dtype)

    assert array.dtype == dtype
    assert np.array_equal(array, whole)
    array += 1
    assert np.array_equal(array, whole + np.ones(1, dtype))


def test_paged_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        arrays = [paged((np.full(1000, place) for place in range(2000)), np.int64), paged_zeros(1 << 21, np.int64)]
        arrays[1][:] = 7
        _, num_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert np.array_equal(arrays[0], np.repeat(np.arange(2000), 1000))
    assert (arrays[1] == 7).all()
    assert num_bytes < 1 << 20  # of 32


@pytest.mark.usefixtures("no_room")
def test_what_no_file_has_room_for_is_held_in_memory() -> None:
    whole = np.arange(50_000)

    assert np.array_equal(paged(np.split(whole, 50), np.int64), whole)
    zeros = paged_zeros(50_000, np.int64)
    zeros[:] = whole
    assert np.array_equal(zeros, whole)


def test_what_no_file_can_be_made_for_is_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_folder", lambda: "/nowhere")
    whole = np.arange(50_000)

    assert np.array_equal(paged(np.split(whole, 50), np.int64), whole)
    assert not paged_zeros(50_000, np.int64).any()


@given(TEXTS)
def test_paged_texts_are_those_that_were_given(parts: list[list[str | None]]) -> None:
    making = PagedTexts()
    for part in parts:
        making.append(pa.array(["beside", *part], pa.string()).slice(1))

    texts = making.array()
    texts.validate(full=True)
    assert texts.to_pylist() == [text for part in parts for text in part]


@pytest.mark.usefixtures("small_files")
def test_processes_that_are_forked_find_what_each_of_them_has_opened() -> None:
    keys = [f"{number:04}" for number in range(1000)]
    starts = np.arange(0, 1001, 100)
    tables = KeyTables(keys[::100], keys[-1], starts)
    arrays = [pa.array(keys[start : start + 100]) for start in starts[:-1]]

    def find_all() -> None:
        found = tables.find("\n".join(keys), len(keys), arrays.__getitem__)
        assert found[0].tolist() == list(range(1000))

    tables.find("0005\n0305", 2, arrays.__getitem__)
    other = get_context("fork").Process(target=find_all, daemon=True)
    other.start()
    other.join(60)
    assert other.exitcode == 0
    find_all()
    find_all()

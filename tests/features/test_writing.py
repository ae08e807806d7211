import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.manifest import view_schema
from features.rev import digest_file
from features.shards import read_shard
from features.writing import stored_vectors, view_batch, write_shard


def test_view_batch_keeps_nan_under_null_in_the_file(tmp_path):
    schema = view_schema(dim=2, dtype="float16", is_sequence=False)
    batch = view_batch(schema, ["a", "b", "c"], ["x", "y", "z"], [np.ones(2), None, np.zeros(2)])
    write_shard(tmp_path / "s.arrow", batch)
    column = read_shard(tmp_path / "s.arrow")["embedding"].chunk(0)
    assert column.to_pylist() == [[1, 1], None, [0, 0]]
    values = column.values.to_numpy().reshape(3, 2)
    assert values.dtype == np.float16
    assert np.isnan(values).tolist() == [[False, False], [True, True], [False, False]]


def test_view_batch_keeps_sequences_with_their_times():
    schema = view_schema(dim=1, dtype="float32", is_sequence=True)
    times = np.array([[0, 0.5], [0.5, 1]])
    batch = view_batch(
        schema, list("abc"), list("xyz"), [np.ones((2, 1)), None, np.ones((0, 1))], [times, None, np.ones((0, 2))]
    )
    assert batch.schema.equals(schema)
    assert batch["embedding"].to_pylist() == [[[1], [1]], None, []]
    assert batch["start_s"].to_pylist() == [[0, 0.5], None, []]
    assert batch["end_s"].to_pylist() == [[0.5, 1], None, []]


@given(st.lists(st.none() | st.floats(-9, 9, width=32), max_size=9), st.sampled_from(["float16", "float32"]))
def test_view_batch_gives_equal_bytes_for_equal_rows(tmp_path_factory, values, dtype):
    folder = tmp_path_factory.mktemp("shards")
    schema = view_schema(dim=3, dtype=dtype, is_sequence=False)
    vectors = [None if value is None else np.full(3, value, np.float32) for value in values]
    keys = [f"{row:03}" for row in range(len(values))]
    for name in ("first.arrow", "second.arrow"):
        write_shard(folder / name, view_batch(schema, keys, keys, vectors))
    assert digest_file(folder / "first.arrow") == digest_file(folder / "second.arrow")
    assert read_shard(folder / "first.arrow")["embedding"].null_count == values.count(None)


@pytest.mark.parametrize(
    ("vectors", "times"),
    [
        ([np.ones(3), np.ones(2)], ()),
        ([np.ones(2)], ()),
        ([np.ones(2), None], [np.ones((1, 2)), None]),
    ],
)
def test_view_batch_refuses_shapes_that_disagree(vectors, times):
    schema = view_schema(dim=2, dtype="float32", is_sequence=False)
    with pytest.raises(ValueError, match=r"shape|one of each"):
        view_batch(schema, ["a", "b"], ["x", "y"], vectors, times)


def test_view_batch_refuses_a_sequence_without_times():
    schema = view_schema(dim=2, dtype="float32", is_sequence=True)
    with pytest.raises(ValueError, match="both vectors and times"):
        view_batch(schema, ["a"], ["x"], [np.ones((1, 2))], [None])


def test_stored_vectors_shows_what_float16_cannot_hold():
    schema = view_schema(dim=1, dtype="float16", is_sequence=False)
    assert np.isinf(stored_vectors(np.array([1e6], np.float32), schema)).all()


def test_write_shard_writes_one_batch_even_without_rows(tmp_path):
    schema = view_schema(dim=2, dtype="float16", is_sequence=False)
    write_shard(tmp_path / "s.arrow", view_batch(schema, [], [], []))
    with pa.memory_map(str(tmp_path / "s.arrow")) as source:
        assert pa.ipc.open_file(source).num_record_batches == 1

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.manifest import view_schema
from features.rev import digest_file
from features.sample import MODALITIES, SAMPLE_SCHEMA
from features.shards import read_shard
from features.writing import sample_batch, stored_rows, stored_vectors, view_batch, write_shard


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
    assert np.isinf(stored_vectors(np.array([1e6], np.float32), "float16")).all()


def test_write_shard_writes_one_batch_even_without_rows(tmp_path):
    schema = view_schema(dim=2, dtype="float16", is_sequence=False)
    write_shard(tmp_path / "s.arrow", view_batch(schema, [], [], []))
    with pa.memory_map(str(tmp_path / "s.arrow")) as source:
        assert pa.ipc.open_file(source).num_record_batches == 1


@given(st.lists(st.none() | st.text("aé", max_size=3), min_size=1, max_size=20), st.integers(0, 9))
def test_sample_batch_of_a_slice_has_the_bytes_of_the_rows_alone(tmp_path_factory, texts, num_before):
    folder = tmp_path_factory.mktemp("samples")
    rows = [
        dict.fromkeys(SAMPLE_SCHEMA.names)
        | dict.fromkeys(("key", "recording", "group", "split", "source", "source_digest"), "x")
        | {f"has_{modality}": index % 3 == 0 for modality in MODALITIES}
        | {"variant": index, "text": text, "start_s": None if text else 0.5}
        for index, text in enumerate(texts)
    ]
    alone = pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)
    beside = pa.concat_tables([alone.slice(0, num_before), alone, alone]).combine_chunks()
    start = min(num_before, len(rows))
    for name, table in (("alone", alone), ("slice", beside.slice(start, len(rows)))):
        write_shard(folder / name, sample_batch(table))
    assert (folder / "alone").read_bytes() == (folder / "slice").read_bytes()
    assert read_shard(folder / "alone").to_pylist() == rows


@pytest.mark.parametrize("is_sequence", [False, True])
def test_stored_rows_gives_back_what_was_written(tmp_path, is_sequence):
    schema = view_schema(dim=2, dtype="float16", is_sequence=is_sequence)
    shapes = [(2, 2), None, (0, 2), (3, 2)] if is_sequence else [(2,), None, (2,), (2,)]
    vectors = [None if shape is None else np.full(shape, row, np.float16) for row, shape in enumerate(shapes)]
    times = [None if vector is None else np.full((len(vector), 2), 0.5) for vector in vectors] if is_sequence else ()
    write_shard(tmp_path / "s.arrow", view_batch(schema, list("abcd"), list("wxyz"), vectors, times))
    found = stored_rows(read_shard(tmp_path / "s.arrow"), np.array([3, 0, 2]))
    for (vector, times_V2), row in zip(found, [3, 0, 2], strict=True):
        np.testing.assert_array_equal(vector, vectors[row], strict=True)
        assert (times_V2 is not None) == is_sequence
        if is_sequence:
            np.testing.assert_array_equal(times_V2, times[row], strict=True)

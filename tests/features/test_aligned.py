import numpy as np
import pyarrow as pa
import pytest

from features.aligned import Aligned
from features.intervals import Intervals

NAN = np.nan


@pytest.fixture
def aligned() -> Aligned:
    targets = Intervals.ragged([[[0, 1], [1, 2], [2, 4]], [], [[0, 2]]])
    values = np.array([[1, 2], [NAN, NAN], [3, 4], [5, 6]], np.float32)
    return Aligned(
        keys=["a", "b", "c"],
        targets=targets,
        values={"audio": values},
        masks={"audio": np.array([True, False, True, True])},
        words=pa.array(["so", "it", "goes", "on"]),
    )


def equal(found: np.ndarray, expected) -> bool:
    return np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")


def test_each_key_can_be_had_alone(aligned):
    assert [len(one.times) for one in aligned] == [3, 0, 1]
    last = aligned[-1]
    assert (last.keys, last.offsets.tolist(), last.words.to_pylist()) == (["c"], [0, 1], ["on"])
    assert last.values["audio"].tolist() == [[5, 6]]
    assert last.times.tolist() == [[0, 2]]
    with pytest.raises(IndexError):
        aligned[3]


def test_padded_is_as_long_as_the_longest(aligned):
    padded = aligned.padded()
    assert padded.lengths.tolist() == [3, 0, 1]
    assert equal(padded.masks["audio"], [[True, False, True], [False] * 3, [True, False, False]])
    none = [NAN, NAN]
    assert equal(padded.values["audio"], [[[1, 2], none, [3, 4]], [none] * 3, [[5, 6], none, none]])
    assert equal(padded.times, [[[0, 1], [1, 2], [2, 4]], [none] * 3, [[0, 2], none, none]])


def test_padded_cuts_the_end_and_fills_what_is_masked(aligned):
    padded = aligned.padded(2, fill=0.0)
    assert padded.lengths.tolist() == [2, 0, 1]
    assert equal(padded.values["audio"], [[[1, 2], [0, 0]], [[0, 0], [0, 0]], [[5, 6], [0, 0]]])
    assert padded.values["audio"].dtype == np.float32
    assert aligned.padded(5).values["audio"].shape == (3, 5, 2)
    with pytest.raises(ValueError, match="length is -1; it must be 0 or more"):
        aligned.padded(-1)


def test_to_arrow_has_a_row_a_key(aligned):
    table = aligned.to_arrow()
    assert table.to_pylist() == [
        {
            "key": "a",
            "start_s": [0, 1, 2],
            "end_s": [1, 2, 4],
            "words": ["so", "it", "goes"],
            "audio": [[1, 2], None, [3, 4]],
        },
        {"key": "b", "start_s": [], "end_s": [], "words": [], "audio": []},
        {"key": "c", "start_s": [0], "end_s": [2], "words": ["on"], "audio": [[5, 6]]},
    ]


def test_to_torch_shares_the_memory(aligned):
    tensors = aligned.to_torch()
    assert tensors["keys"] == ["a", "b", "c"]
    assert tensors["offsets"].tolist() == [0, 3, 3, 4]
    assert tensors["values"]["audio"].data_ptr() == aligned.values["audio"].ctypes.data
    padded = aligned.padded(fill=0.0).to_torch()
    assert (padded["values"]["audio"].shape, padded["lengths"].tolist()) == ((3, 3, 2), [3, 0, 1])
    assert padded["masks"]["audio"].sum() == 3

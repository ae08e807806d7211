import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.encoders.pooling import pool, pooled_dim
from features.view import POOLINGS

TIMES_T2 = np.array([[0.0, 1.0], [1.0, 5.0], [5.0, 6.0]])
VECTORS_TD = np.array([[1.0, -2.0], [3.0, 0.0], [8.0, -1.0]], np.float32)


def test_pool_mean_counts_each_vector_once_whatever_its_interval():
    pooled, times = pool(VECTORS_TD, TIMES_T2, "mean")
    assert pooled.tolist() == [4.0, -1.0]
    assert times is None


def test_pool_max_is_taken_per_dimension():
    assert pool(VECTORS_TD, TIMES_T2, "max")[0].tolist() == [8.0, 0.0]


def test_pool_mean_std_appends_population_deviation():
    pooled, _ = pool(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32), TIMES_T2[:2], "mean_std")
    assert pooled.tolist() == [2.0, 5.0, 1.0, 0.0]


def test_pool_sequence_keeps_vectors_and_times():
    vectors, times = pool(VECTORS_TD, TIMES_T2, "sequence")
    assert np.array_equal(vectors, VECTORS_TD)
    assert times is TIMES_T2


def test_pool_mean_keeps_small_numbers_beside_large_ones():
    large = np.array([[1e8], [1.0], [-1e8]], np.float32)
    assert pool(large, TIMES_T2, "mean")[0][0] == np.float32(1 / 3)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pool_has_the_announced_length_and_type(pooling):
    pooled, _ = pool(VECTORS_TD, TIMES_T2, pooling)
    assert pooled.shape[-1] == pooled_dim(2, pooling)
    assert pooled.dtype == np.float32


@pytest.mark.parametrize("pooling", POOLINGS)
@given(vectors=arrays(np.float32, (7, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_pool_bytes_do_not_depend_on_memory_layout(pooling, vectors):
    times = np.zeros((7, 2))
    assert pool(vectors, times, pooling)[0].tobytes() == pool(np.asfortranarray(vectors), times, pooling)[0].tobytes()


def test_pool_refuses_a_sample_without_vectors():
    with pytest.raises(ValueError, match="no vector"):
        pool(np.empty((0, 4), np.float32), np.empty((0, 2)), "mean")


def test_pool_temporal_is_mean_deviation_change_and_trend():
    vectors = np.array([[0.0, 4.0], [2.0, 4.0], [1.0, 4.0], [5.0, 0.0]], np.float32)
    pooled, times = pool(vectors, np.zeros((4, 2)), "temporal")
    deviations = [np.float32(np.sqrt(3.5)), np.float32(np.sqrt(3.0))]
    assert pooled.tolist() == [2.0, 3.0, *deviations, np.float32(7 / 3), np.float32(4 / 3), 2.0, -2.0]
    assert times is None


def test_pool_temporal_leaves_the_middle_of_an_odd_number_out_of_the_trend():
    pooled, _ = pool(np.array([[1.0], [100.0], [4.0]], np.float32), TIMES_T2, "temporal")
    assert pooled[3] == 3.0


def test_pool_temporal_of_a_single_vector_is_the_vector_without_motion():
    pooled, _ = pool(VECTORS_TD[:1], TIMES_T2[:1], "temporal")
    assert pooled.tolist() == [1.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@given(vectors=arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-1e3, 1e3, width=32)))
def test_pool_temporal_sees_the_order(vectors):
    times = np.zeros((len(vectors), 2))
    forth, back = (pool(ordered, times, "temporal")[0] for ordered in (vectors, vectors[::-1]))
    assert forth[:6].tobytes() == pool(vectors, times, "mean_std")[0].tobytes()
    assert np.allclose(forth[:9], back[:9], atol=1e-3)
    assert np.allclose(forth[9:], -back[9:], atol=1e-3)


def test_pool_refuses_an_unknown_pooling():
    with pytest.raises(ValueError, match="must be one of mean, max, mean_std, temporal, sequence"):
        pool(VECTORS_TD, TIMES_T2, "median")


@given(arrays(np.float32, st.tuples(st.integers(1, 300), st.integers(1, 90)), elements=st.floats(-1e4, 1e4, width=32)))
def test_pool_mean_std_is_summed_in_order_as_numpy_does_over_columns(vectors_TD):
    def mean(values_TD):
        return (0.0 + np.cumsum(values_TD, axis=0)[-1]) / len(values_TD)  # a sum begins with 0, also one of -0

    exact_TD = vectors_TD.astype(np.float64)
    expected = np.concatenate([mean(exact_TD), np.sqrt(mean(np.square(exact_TD - mean(exact_TD))))]).astype(np.float32)
    found = pool(vectors_TD, np.zeros((len(vectors_TD), 2)), "mean_std")[0]
    assert found.tobytes() == expected.tobytes()
    if vectors_TD.shape[1] > 1:  # of a single column numpy takes the sum in blocks
        numpys = np.concatenate([exact_TD.mean(axis=0), exact_TD.std(axis=0)]).astype(np.float32)
        assert found.tobytes() == numpys.tobytes()

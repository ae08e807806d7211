import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.nearest_kernels import _widen_by_steps, find_above, multiply_rows, widen_rows

EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = EVERY[np.isfinite(EVERY)]


def products_of(stored_ND, places_B, queries_QD) -> np.ndarray:
    products_BQ = np.full((len(places_B), len(queries_QD)), np.nan, np.float32)
    multiply_rows(stored_ND.reshape(-1).view(np.int16), np.asarray(places_B, np.int64), queries_QD, products_BQ)
    return products_BQ


def test_multiply_rows_widens_every_finite_float16_exactly():
    products_BQ = products_of(FINITE, np.arange(len(FINITE)), np.array([[1], [-1]], np.float32))
    assert np.array_equal(products_BQ, FINITE.astype(np.float32)[:, None] * [1, -1])


def test_widen_rows_widens_every_finite_float16_exactly():
    wide_BD = np.full((len(FINITE) // 4, 4), np.nan, np.float32)
    widen_rows(FINITE.view(np.int16), np.arange(0, len(FINITE), 4)[::-1].copy(), wide_BD)
    assert np.array_equal(wide_BD[::-1].reshape(-1), FINITE.astype(np.float32))


def test_find_above_scales_rows_and_passes_what_is_above_alone():
    scores_BQ = np.array([[1, 2], [3, -4], [5, 6], [np.inf, -np.inf]], np.float32)
    scales_B, places = np.array([2, 1, np.nan, 1], np.float32), np.full(8, -1)
    assert find_above(scores_BQ, scales_B, np.array([2, -5], np.float32), places) == 4
    assert places.tolist() == [1, 2, 3, 6, -1, -1, -1, -1]  # 2 * 1 is not above 2


def test_widen_by_steps_widens_every_finite_float16_exactly():
    widened = [_widen_by_steps(bits) for bits in FINITE.view(np.int16)]
    assert np.array_equal(np.array(widened, np.float32).view(np.int32), FINITE.astype(np.float32).view(np.int32))


@given(
    seed=st.integers(0, 2**32),
    num_rows=st.integers(0, 9),
    num_queries=st.integers(1, 4),
    dim=st.integers(1, 100),
    exponent=st.integers(-24, 8),
)
def test_multiply_rows_is_as_close_as_float32_can_be(seed, num_rows, num_queries, dim, exponent):
    rng = np.random.default_rng(seed)
    stored_ND = (rng.standard_normal((12, dim)) * 2.0**exponent).astype(np.float16)
    queries_QD = rng.standard_normal((num_queries, dim)).astype(np.float32)
    rows_B = rng.integers(0, 12, num_rows)
    products_BQ = products_of(stored_ND, rows_B * dim, queries_QD)
    wide_BD, exact_QD = stored_ND[rows_B].astype(np.float64), queries_QD.astype(np.float64)
    lengths_BQ = np.outer(np.linalg.norm(wide_BD, axis=1), np.linalg.norm(exact_QD, axis=1))
    assert np.all(np.abs(products_BQ - wide_BD @ exact_QD.T) <= 2.0**-22 * np.sqrt(dim) * lengths_BQ)


@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_multiply_rows_gives_equal_rows_equal_products(num_rows):
    vector_D = np.random.default_rng(0).standard_normal(77).astype(np.float16)
    queries_QD = np.random.default_rng(1).standard_normal((2, 77)).astype(np.float32)
    stored_ND = np.tile(vector_D, (num_rows, 1))
    products_BQ = products_of(stored_ND, np.arange(num_rows) * 77, queries_QD)
    assert (products_BQ == products_BQ[0]).all()

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.nearest_kernels import multiply_rows


def products_of(stored_ND, places_B, query_D) -> np.ndarray:
    products_B = np.full(len(places_B), np.nan, np.float32)
    multiply_rows(stored_ND.reshape(-1).view(np.uint16), np.asarray(places_B, np.int64), query_D, products_B)
    return products_B


def test_multiply_rows_widens_every_finite_float16_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert np.array_equal(
        products_of(finite, np.arange(len(finite)), np.ones(1, np.float32)), finite.astype(np.float32)
    )


@given(seed=st.integers(0, 2**32), num_rows=st.integers(0, 9), dim=st.integers(1, 100), exponent=st.integers(-24, 8))
def test_multiply_rows_is_as_close_as_float32_can_be(seed, num_rows, dim, exponent):
    rng = np.random.default_rng(seed)
    stored_ND = (rng.standard_normal((12, dim)) * 2.0**exponent).astype(np.float16)
    query_D = rng.standard_normal(dim).astype(np.float32)
    rows_B = rng.integers(0, 12, num_rows)
    products_B = products_of(stored_ND, rows_B * dim, query_D)
    wide_BD = stored_ND[rows_B].astype(np.float64)
    lengths_B = np.sqrt((wide_BD**2).sum(axis=1)) * np.sqrt((query_D.astype(np.float64) ** 2).sum())
    assert np.all(np.abs(products_B - wide_BD @ query_D.astype(np.float64)) <= 2.0**-22 * np.sqrt(dim) * lengths_B)


@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_multiply_rows_gives_equal_rows_equal_products(num_rows):
    vector_D = np.random.default_rng(0).standard_normal(77).astype(np.float16)
    query_D = np.random.default_rng(1).standard_normal(77).astype(np.float32)
    stored_ND = np.tile(vector_D, (num_rows, 1))
    assert len(np.unique(products_of(stored_ND, np.arange(num_rows) * 77, query_D))) == 1

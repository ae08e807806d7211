"""Tests of the reductions themselves: the fit, and what it does to a row."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler, normalize
from threadpoolctl import threadpool_limits

from features.errors import ReductionError, ShardError
from features.reductions import (
    MAX_PCA_INPUT,
    FittedStep,
    apply_steps,
    fit_batch,
    fit_steps,
    parse_steps,
    read_fit,
    reduced_dim,
)
from features.rev import digest_bytes, digest_file
from features.writing import write_shard


def _rows(num_rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Rows with a mean, unequal spreads and correlations."""
    random = np.random.default_rng(seed)
    return random.standard_normal((num_rows, dim)) @ random.standard_normal((dim, dim)) + 10 * random.random(dim)


def _parts(rows_ND: np.ndarray, *lengths: int) -> Callable[[], Iterator[np.ndarray]]:
    """What hands the rows over in parts of these lengths, the last one with all that is left."""
    return lambda: iter(np.split(rows_ND, np.cumsum(lengths)))


def _fit(declared: list[Any], rows_ND: np.ndarray) -> tuple[FittedStep, ...]:
    return fit_steps(parse_steps(declared), _parts(rows_ND))


def _digest(fitted: tuple[FittedStep, ...]) -> str:
    return digest_bytes(*(buffer for column in fit_batch(fitted) for buffer in column.buffers() if buffer))


def test_standardise_is_that_of_scikit_learn() -> None:
    train, other = _rows(3000, 20), _rows(50, 20, seed=1)
    scaler = StandardScaler().fit(train)

    np.testing.assert_allclose(apply_steps(_fit(["standardise"], train), other), scaler.transform(other), atol=1e-6)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("dim", [1, 7, 20])
def test_pca_is_that_of_scikit_learn(dim: int, whiten: bool) -> None:
    train, other = _rows(3000, 20), _rows(50, 20, seed=1)
    peer = PCA(dim, whiten=whiten, svd_solver="full").fit(train)

    fitted = _fit([{"pca": dim, "whiten": whiten}], train)

    np.testing.assert_allclose(apply_steps(fitted, other), peer.transform(other), atol=1e-6)  # signs included


def test_steps_follow_each_other_as_in_a_pipeline_of_scikit_learn() -> None:
    train, other = _rows(2500, 12), _rows(50, 12, seed=1)
    scaler = StandardScaler().fit(train)
    peer = PCA(5, whiten=True, svd_solver="full").fit(scaler.transform(train))

    fitted = _fit(["standardise", {"pca": 5, "whiten": True}, "l2"], train)

    expected = normalize(peer.transform(scaler.transform(other)))
    np.testing.assert_allclose(apply_steps(fitted, other), expected, atol=1e-6)


def test_whitened_rows_have_unit_covariance_and_no_mean() -> None:
    rows = _rows(4000, 10)

    reduced = apply_steps(_fit([{"pca": 10, "whiten": True}], rows), rows)

    np.testing.assert_allclose(reduced.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(reduced.T), np.eye(10), atol=1e-9)


def test_standardise_divides_by_one_what_does_not_vary() -> None:
    rows = _rows(2100, 3)
    rows[:, 1] = 0.1  # its mean over many rows is not exactly 0.1

    reduced = apply_steps(_fit(["standardise"], rows), rows + np.array([0, 1, 0]))

    np.testing.assert_allclose(reduced[:, 1], 1, atol=1e-12)
    np.testing.assert_allclose(reduced[:, [0, 2]].std(axis=0), 1, atol=1e-9)


def test_l2_leaves_a_row_of_zeros() -> None:
    assert apply_steps(_fit(["l2"], np.empty((0, 2))), np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [
        [0.0, 0.0],
        [0.6, 0.8],
    ]


def test_a_far_away_mean_costs_no_digits() -> None:
    rows = _rows(3000, 4)

    near = apply_steps(_fit([{"pca": 2, "whiten": True}], rows), rows)
    far = apply_steps(_fit([{"pca": 2, "whiten": True}], rows + 1e6), rows + 1e6)

    np.testing.assert_allclose(far, near, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 1500), max_size=6), st.sampled_from([np.float16, np.float32, np.float64]))
def test_a_fit_does_not_depend_on_how_the_rows_are_handed_over(lengths: list[int], dtype: Any) -> None:
    rows = _rows(2600, 3).astype(dtype)
    steps = parse_steps(["standardise", {"pca": 2}])

    assert _digest(fit_steps(steps, _parts(rows, *lengths))) == _digest(fit_steps(steps, _parts(rows)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 39), st.integers(2, 70))
def test_a_reduced_row_does_not_depend_on_its_company(num_rows: int, place: int, dim: int) -> None:
    rows = _rows(40, dim)
    fitted = _fit(["standardise", {"pca": min(dim, 9), "whiten": True}, "l2"], _rows(200, dim, seed=1))
    company = np.roll(rows, place, axis=0)[: max(num_rows, place + 1)]

    assert apply_steps(fitted, company)[place].tobytes() == apply_steps(fitted, rows[:1].copy()).tobytes()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_the_largest_entry_of_an_axis_is_positive(dim: int, seed: int) -> None:
    (pca,) = _fit([{"pca": dim}], _rows(50, 6, seed))

    assert pca.axes_KD is not None
    assert (np.abs(pca.axes_KD).max(axis=1) == pca.axes_KD.max(axis=1)).all()
    np.testing.assert_allclose(pca.axes_KD @ pca.axes_KD.T, np.eye(dim), atol=1e-12)


def test_a_fit_has_the_same_bytes_on_any_number_of_threads() -> None:
    rows = np.random.default_rng(0).standard_normal((700, 400))
    digests = set()
    for threads in (1, 2):
        with threadpool_limits(threads):
            digests.add(_digest(_fit([{"pca": 300}], rows)))

    assert len(digests) == 1


def test_a_fit_comes_back_from_its_file(tmp_path: Path) -> None:
    rows = _rows(100, 8)
    fitted = _fit(["l2", "standardise", {"pca": 3, "whiten": True}, {"pca": 2}, "l2"], rows)

    write_shard(tmp_path / "one", fit_batch(fitted))
    write_shard(tmp_path / "two", fit_batch(read_fit(tmp_path / "one")))

    assert digest_file(tmp_path / "one") == digest_file(tmp_path / "two")
    assert apply_steps(read_fit(tmp_path / "one"), rows).tobytes() == apply_steps(fitted, rows).tobytes()


def test_read_fit_refuses_another_table(tmp_path: Path) -> None:
    write_shard(tmp_path / "rows", pa.record_batch({"key": ["a"]}))

    with pytest.raises(ShardError, match="holds no fit of a reduction"):
        read_fit(tmp_path / "rows")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.empty((0, 4)), "there is no training row"),
        (_rows(3, 4), "the 3 training rows vary in 2 directions only"),
        (np.ones((9, 4)), "the 9 training rows vary in 0 directions only"),
        (_rows(50, 4) * [1, 1, 0, 0], "the 50 training rows vary in 2 directions only"),
        (_rows(50, 4) @ np.diag([1, 1, 1, 0]) @ np.ones((4, 4)), "vary in 1 directions only"),
        (_rows(50, 2), "pca to 3 of vectors of 2 numbers"),
    ],
)
def test_fit_refuses_a_pca_that_keeps_more_than_there_is(rows: np.ndarray, said: str) -> None:
    with pytest.raises(ReductionError, match=said):
        _fit([{"pca": 3}], rows)


def test_reduced_dim_follows_the_steps() -> None:
    assert reduced_dim(parse_steps(["standardise", "l2"]), 7) == 7
    assert reduced_dim(parse_steps([{"pca": 5}, {"pca": 3}, "l2"]), 7) == 3
    with pytest.raises(ReductionError, match="it takes 8192 at most"):
        reduced_dim(parse_steps([{"pca": 5}]), MAX_PCA_INPUT + 1)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ([], "there is no step"),
        (["standardize"], "unknown step 'standardize'"),
        (["pca"], "unknown step 'pca'"),
        ([{"pca": 0}], "unknown step"),
        ([{"pca": True}], "unknown step"),
        ([{"pca": 2.0}], "unknown step"),
        ([{"pca": 2, "whiten": 1}], "unknown step"),
        ([{"pca": 2, "size": 1}], "unknown step"),
        ([{"whiten": True}], "unknown step"),
        ([["l2"]], "unknown step"),
        ([{"pca": 2}, {"pca": 3}], "pca to 2, then to 3 numbers"),
    ],
)
def test_parse_steps_refuses_what_is_none(declared: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_steps(declared)


def test_steps_say_what_they_are() -> None:
    steps = parse_steps(["standardise", {"pca": 64, "whiten": True}, {"pca": 8}, "l2"])

    assert ", ".join(map(str, steps)) == "standardise, pca 64 whitened, pca 8, l2"

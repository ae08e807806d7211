import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.measures import QUANTILES, Distribution, VectorMeasure

_NORMS = st.lists(st.floats(0, 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=60)
_PIECES = st.integers(1, 20)


def _summary(values, piece, *, whole=False):
    distribution = Distribution(whole=whole)
    for start in range(0, len(values), piece):
        distribution.add(np.asarray(values[start : start + piece]))
    return distribution.summary()


@given(_NORMS, _PIECES)
def test_distribution_keeps_ends_and_counts_all(values, piece):
    found = _summary(values, piece)
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["mean"] == pytest.approx(np.mean(values))
    assert sum(found["histogram"]["counts"]) == len(values)
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["counts"]) + 1


@given(_NORMS)
def test_distribution_tells_quantiles_to_its_precision(values):
    found = _summary(values, len(values))
    exact = np.quantile(values, QUANTILES, method="inverted_cdf")
    assert list(found["quantiles"].values()) == pytest.approx(exact, rel=5e-4, abs=1e-30)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
def test_distribution_of_whole_numbers_gives_every_bar_as_many(values):
    histogram = _summary(values, 7, whole=True)["histogram"]
    widths = np.diff(histogram["edges"])
    assert widths[0] == int(widths[0])
    assert (widths == widths[0]).all()
    assert sum(histogram["counts"]) == len(values)


def test_distribution_of_nothing_is_none():
    assert Distribution().summary() is None


def test_distribution_counts_what_float32_cannot_hold():
    assert _summary([1.0, 1e200], 2)["max"] == 1e200


@given(
    hnp.arrays(np.float16, st.tuples(st.integers(2, 40), st.just(3)), elements=st.floats(-1000, 1000, width=16)),
    _PIECES,
)
def test_vector_measure_does_not_depend_on_pieces(vectors_VD, piece):
    measure = VectorMeasure(3)
    for start in range(0, len(vectors_VD), piece):
        assert measure.add(vectors_VD[start : start + piece]).all()
    exact_VD = vectors_VD.astype(np.float64)
    assert measure.num == len(vectors_VD)
    assert measure.norms.summary()["max"] == pytest.approx(np.linalg.norm(exact_VD, axis=1).max(), rel=1e-5)
    assert measure.deviations() == pytest.approx(exact_VD.std(axis=0), rel=1e-3, abs=1e-3)
    assert measure.mean() == pytest.approx(exact_VD.mean(axis=0), rel=1e-5, abs=1e-3)
    dead_D = (vectors_VD == vectors_VD[0]).all(axis=0)
    assert ((measure.deviations() == 0) == dead_D).all()


def test_vector_measure_leaves_out_what_is_not_finite():
    measure = VectorMeasure(2)
    vectors_VD = np.array([[3.0, 4.0], [np.nan, 0.0], [0.0, np.inf], [3e38, 3e38]], np.float32)
    assert measure.add(vectors_VD).tolist() == [True, False, False, True]
    assert measure.norms.summary()["max"] == pytest.approx(3e38 * np.sqrt(2))

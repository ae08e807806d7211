import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from features.encoders.vector_kernels import full_scale, is_finite, sliding_intervals
from pipelines.media.audio import from_pcm16

ANY_FLOAT = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=40), elements=ANY_FLOAT))
def test_is_finite_says_what_numpy_says(vectors_TD):
    assert is_finite(vectors_TD) == np.isfinite(vectors_TD).all()


@given(st.integers(0, 400), st.floats(0, 5), st.floats(-1, 1), st.floats(0.999, 1.001))
def test_sliding_intervals_are_those_of_the_formula(num, duration_s, start_s, stretch):
    starts_T = np.arange(num) * 160.0
    times_T2 = start_s + stretch * np.minimum(np.stack([starts_T, starts_T + 400], axis=1) / 16_000, duration_s)
    assert sliding_intervals(num, 400, 160, 16_000, duration_s, start_s, stretch).tobytes() == times_T2.tobytes()


def test_full_scale_is_what_every_sample_of_pcm_says():
    pcm = np.arange(-(2**15), 2**15, dtype="<i2").tobytes()
    assert full_scale(np.frombuffer(pcm, "<i2")).tobytes() == from_pcm16(pcm).tobytes()
    assert full_scale(np.frombuffer(b"", "<i2")).shape == (0,)

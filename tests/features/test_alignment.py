import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.alignment import HOWS, align_intervals
from features.intervals import Intervals

EPSILON_S = 10e-6

# Multiples of an eighth meet each other exactly; the others do not.
seconds = st.integers(0, 48).map(lambda eighths: eighths / 8) | st.floats(0, 6, allow_subnormal=False)
interval = st.tuples(seconds, seconds).map(sorted)
unclocked = st.just([np.nan, np.nan])
samples = st.lists(
    st.tuples(st.lists(interval | unclocked, max_size=12), st.lists(interval | unclocked, max_size=8)), max_size=4
)


def both(drawn) -> tuple[Intervals, Intervals]:
    return tuple(Intervals.ragged([np.array(part[side]) for part in drawn]) for side in (0, 1))


def numbers(num_vectors: int, dim: int = 3) -> np.ndarray:
    return np.random.default_rng(num_vectors).standard_normal((num_vectors, dim)) * 100


def aligned(times, target_times, vectors, how="mean") -> np.ndarray:
    """Of one sample."""
    vectors = np.array(vectors, np.float32).reshape(len(times), -1)
    return align_intervals(vectors, Intervals.ragged([times]), Intervals.ragged([target_times]), how)[0].squeeze(-1)


def by_definition(vectors_SD, times_S2, start, end, how) -> np.ndarray | None:
    """One target from all sources of its sample, each looked at; None if it is masked."""
    held = sorted((s for s in range(len(times_S2)) if times_S2[s][1] > times_S2[s][0]), key=lambda s: times_S2[s][0])
    overlap = {s: min(times_S2[s][1], end) - max(times_S2[s][0], start) for s in held}
    over = [s for s in held if overlap[s] > (EPSILON_S if how == "unweighted" else 0)]
    if not over or np.isnan(start):
        return None
    middle, middles = 0.5 * (start + end), {s: 0.5 * (times_S2[s][0] + times_S2[s][1]) for s in held}
    if how == "max":
        return np.max(vectors_SD[over], axis=0)
    if how == "nearest":

        def nearness(s: int) -> tuple[bool, float, float]:
            first, last = times_S2[s]
            return not first <= middle < last, max(first - middle, middle - last, 0), abs(middles[s] - middle)

        return vectors_SD[min(held, key=nearness)]  # of all, not only of those that overlap the target
    if how == "linear":
        known, first = np.unique([middles[s] for s in held], return_index=True)
        return np.array([np.interp(middle, known, vectors_SD[held][first, d]) for d in range(vectors_SD.shape[1])])
    weights = [1.0 if how == "unweighted" else overlap[s] for s in over]
    return sum(weight * vectors_SD[s] for weight, s in zip(weights, over, strict=True)) / sum(weights)


@pytest.mark.parametrize("how", HOWS)
@given(drawn=samples)
def test_align_intervals_does_as_it_is_defined(how, drawn):
    sources, targets = both(drawn)
    vectors_SD = numbers(len(sources.start_T))
    values_TD, mask_T = align_intervals(vectors_SD, sources, targets, how)
    expected = [
        by_definition(vectors_SD[slice(*sources.offsets[k : k + 2])], sources[k : k + 1].times, *times, how)
        for k in range(len(drawn))
        for times in targets[k : k + 1].times
    ]
    assert mask_T.tolist() == [vector is not None for vector in expected]
    assert np.isnan(values_TD[~mask_T]).all()
    expected_TD = np.array([vector for vector in expected if vector is not None], np.float32).reshape(-1, 3)
    if how == "linear":
        np.testing.assert_allclose(values_TD[mask_T], expected_TD, rtol=1e-4, atol=1e-4)
    else:
        assert np.array_equal(values_TD[mask_T], expected_TD)


def like_cmu(times_S2, features_SD, reference_T2) -> list[np.ndarray | None]:
    """The mean of CMU-MultimodalSDK 1.2, in the words of its rule: of the entries in the order of their starts, those
    that the reference touches within an epsilon are cut to it, the cut ones longer than the epsilon are averaged, and a
    reference shorter than the epsilon is left out."""
    order = sorted(range(len(times_S2)), key=lambda entry: times_S2[entry][0])
    collapsed: list[np.ndarray | None] = []
    for first, last in reference_T2:
        counted = []
        for entry in order:
            start, end = times_S2[entry]
            if abs(last - first) >= EPSILON_S and last - start > -EPSILON_S and end - first > -EPSILON_S:
                cut = max(start, first), min(end, last)
                if abs(cut[0] - cut[1]) > EPSILON_S:
                    counted.append(features_SD[entry])
        collapsed.append(np.average(counted, axis=0) if counted else None)
    return collapsed


near = st.tuples(seconds, st.integers(-3, 3)).map(lambda drawn: drawn[0] + drawn[1] * EPSILON_S / 2)
near_interval = st.tuples(near, near).map(sorted)


@given(times=st.lists(interval | near_interval, max_size=20), reference=st.lists(interval | near_interval, max_size=9))
def test_unweighted_is_the_mean_of_the_cmu_sdk_to_the_bit(times, reference):
    features_SD = numbers(len(times))
    expected = like_cmu(times, features_SD, reference)
    values_TD, mask_T = align_intervals(
        features_SD, Intervals.ragged([np.array(times)]), Intervals.ragged([np.array(reference)]), "unweighted"
    )
    assert mask_T.tolist() == [vector is not None for vector in expected]
    for value_D, vector_D in zip(values_TD[mask_T], [vector for vector in expected if vector is not None], strict=True):
        assert np.array_equal(value_D, vector_D.astype(np.float32))


@pytest.mark.parametrize("how", HOWS)
@given(drawn=samples, constant=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False))
def test_a_constant_stays_that_constant(how, drawn, constant):
    sources, targets = both(drawn)
    values_TD, mask_T = align_intervals(np.full((len(sources.start_T), 2), constant, np.float32), sources, targets, how)
    assert (values_TD[mask_T] == np.float32(constant)).all()


@given(drawn=samples, edges=st.lists(st.floats(0, 6), max_size=9))
def test_mean_conserves_the_integral(drawn, edges):
    sources, _ = both(drawn)
    sources = Intervals(np.nan_to_num(sources.start_T), np.nan_to_num(sources.end_T), sources.offsets)
    edges = [0.0, *sorted(edges), 6.0]
    parts = np.stack([edges[:-1], edges[1:]], axis=1)
    vectors_SD = numbers(len(sources.start_T))
    values_TD, mask_T = align_intervals(vectors_SD, sources, Intervals.ragged([parts] * len(drawn)))
    starts, ends = sources.start_T[:, None], sources.end_T[:, None]
    overlap_ST = (np.minimum(ends, parts[:, 1]) - np.maximum(starts, parts[:, 0])).clip(min=0)
    for k in range(len(drawn)):
        own, here = slice(*sources.offsets[k : k + 2]), slice(k * len(parts), (k + 1) * len(parts))
        after_D = overlap_ST[own].sum(axis=0)[mask_T[here]] @ values_TD[here][mask_T[here]]
        before_D = (sources.end_T[own] - sources.start_T[own]) @ vectors_SD[own]
        np.testing.assert_allclose(after_D, before_D, atol=1e-4)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), num_parts=st.integers(1, 7), start=st.floats(0, 9))
def test_refined_and_pooled_back_it_is_the_same(lengths, num_parts, start):
    edges = start + np.cumsum([0, *lengths]) / 25
    fine = np.concatenate([np.linspace(*pair, num_parts + 1)[:-1] for pair in pairwise(edges)])
    coarse = Intervals.ragged([np.stack([edges[:-1], edges[1:]], axis=1)])
    finer = Intervals.ragged([np.stack([fine, [*fine[1:], edges[-1]]], axis=1)])
    vectors_SD = numbers(len(lengths)).astype(np.float32)
    refined_TD, _ = align_intervals(vectors_SD, coarse, finer)
    back_SD, mask_S = align_intervals(refined_TD, finer, coarse)
    assert mask_S.all()
    assert np.array_equal(back_SD, vectors_SD)


@pytest.mark.parametrize("how", HOWS)
@given(drawn=samples, seed=st.integers(0, 99))
def test_neither_the_order_of_sources_nor_other_samples_change_a_byte(how, drawn, seed):
    drawn = [(list({start: (start, end) for start, end in times}.values()), targets) for times, targets in drawn]
    sources, targets = both(drawn)
    vectors_SD = numbers(len(sources.start_T))
    together_TD, _ = align_intervals(vectors_SD, sources, targets, how)
    for k in range(len(drawn)):
        own = slice(*sources.offsets[k : k + 2])
        mixed = np.random.default_rng(seed).permutation(own.stop - own.start)
        alone = Intervals.ragged([sources[k : k + 1].times[mixed]])
        alone_TD, _ = align_intervals(vectors_SD[own][mixed], alone, targets[k : k + 1], how)
        assert alone_TD.tobytes() == together_TD[slice(*targets.offsets[k : k + 2])].tobytes()


FRAMES = [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [4 / 3, 5]),
        ("unweighted", [1, 5]),
        ("max", [2, 5]),
        ("nearest", [2, 5]),
        ("linear", [1.5, 4.25]),
    ],
)
def test_each_how_on_three_frames(how, expected):
    assert aligned(FRAMES, [[0.5, 2.0], [2.0, 2.5]], [0, 2, 5], how) == pytest.approx(expected)


@pytest.mark.parametrize("how", HOWS)
def test_intervals_are_half_open(how):
    assert np.array_equal(
        aligned([[1, 2]], [[0, 1], [1, 2], [2, 3], [1.5, 1.5]], [7], how), [np.nan, 7, np.nan, np.nan], True
    )


def test_the_nearest_of_touching_frames_is_the_one_that_begins():
    assert aligned(FRAMES, [[0.5, 1.5]], [0, 2, 5], "nearest") == [2]


def test_a_target_in_a_gap_is_masked_and_one_over_it_is_pooled_from_its_edges():
    times = [[0, 1], [3, 4]]
    assert np.array_equal(aligned(times, [[1, 3], [0.5, 4]], [10, 20]), [np.nan, np.float32(50 / 3)], True)


def test_a_long_source_reaches_past_shorter_ones_that_start_later():
    times = [[0, 9], [1, 2], [2, 3]]
    assert aligned(times, [[8, 9]], [4, 5, 6]) == [4]


def test_overlapping_windows_count_by_their_overlap():
    assert aligned([[0, 2], [1, 3]], [[0, 3], [1, 2], [0, 1]], [0, 6]) == pytest.approx([3, 3, 0])


@pytest.mark.parametrize(("how", "expected"), [("mean", np.nan), ("max", np.nan), ("nearest", 1)])
def test_a_number_that_is_nan_is_not_passed_over(how, expected):
    assert np.array_equal(aligned([[0, 2], [2, 3]], [[0, 3]], [1, np.nan], how), [expected], True)


def test_align_intervals_takes_arrow_lists_and_float16():
    sources, targets = (
        Intervals.ragged([[[0, 1], [1, 2]], [], [[0, 1]]]),
        Intervals.ragged([[[0, 2]], [[0, 1]], [[0, 1]]]),
    )
    vectors = np.array([[1, 2], [3, 4], [5, 6]], np.float16)
    pairs = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 2)
    lists = pa.ListArray.from_arrays(pa.array([0, 2, None, 3], pa.int32()), pairs)
    expected = [[2, 3], [np.nan, np.nan], [5, 6]]
    for given_ in (vectors, lists, pa.chunked_array([lists.slice(0, 1), lists.slice(1)])):
        assert np.array_equal(align_intervals(given_, sources, targets)[0], expected, True)


def test_align_intervals_says_what_does_not_agree():
    one = Intervals.ragged([[[0, 1]]])
    with pytest.raises(ValueError, match=r"2 vectors at 1 intervals"):
        align_intervals(np.zeros((2, 3)), one, one)
    with pytest.raises(ValueError, match=r"of 1 samples and targets of 2"):
        align_intervals(np.zeros((1, 3)), one, Intervals.ragged([[], []]))
    with pytest.raises(ValueError, match=r"how is 'median'; it must be one of mean, unweighted"):
        align_intervals(np.zeros((1, 3)), one, one, "median")


def test_align_intervals_gives_these_bytes():
    # Features of stores and of papers are made with these definitions: other bytes are other definitions.
    rng = np.random.default_rng(0)
    times = [np.sort(rng.integers(0, 900, (50, 2)) / 30, axis=1) for _ in range(4)]
    targets = [np.sort(rng.integers(0, 3000, (20, 2)) / 100, axis=1) for _ in range(4)]
    vectors = rng.integers(-999, 999, (200, 5)).astype(np.float32) / 7
    digest = hashlib.sha256()
    for how in HOWS:
        for array in align_intervals(vectors, Intervals.ragged(times), Intervals.ragged(targets), how):
            digest.update(array.tobytes())
    assert digest.hexdigest() == "ab2448df0968ce703200bbb76c7e3029459fba15b66a1bb09ad38890270a2875"

"""Windows over a recording."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipelines.media.windows import window_spans

milliseconds = st.integers(1, 5000).map(lambda ms: ms / 1000)


def windows(first_s: float, last_s: float, length_s: float, hop_s: float) -> list[tuple[float, float]]:
    return [(one["start_s"], one["end_s"]) for one in window_spans((first_s, last_s), length_s=length_s, hop_s=hop_s)]


def test_windows_end_with_the_one_that_reaches_the_end() -> None:
    assert windows(0.0, 10.0, 4.0, 4.0) == [(0.0, 4.0), (4.0, 8.0), (8.0, 10.0)]
    assert windows(0.0, 10.0, 4.0, 3.0) == [(0.0, 4.0), (3.0, 7.0), (6.0, 10.0)]
    assert windows(0.5, 2.0, 4.0, 3.0) == [(0.5, 2.0)]
    assert windows(0.0, 5.0, 1.0, 4.5) == [(0.0, 1.0), (4.5, 5.0)]
    assert windows(0.0, 4.0, 1.0, 4.5) == [(0.0, 1.0)]


@given(st.integers(-3000, 3000).map(lambda ms: ms / 1000), milliseconds, st.integers(50, 3000), st.integers(50, 3000))
def test_windows_lie_within_and_leave_nothing_out_where_they_meet(
    first_s: float, duration_s: float, length_ms: int, hop_ms: int
) -> None:
    last_s = round(first_s + duration_s, 3)
    found = windows(first_s, last_s, length_ms / 1000, hop_ms / 1000)
    assert all(first_s <= start_s < end_s <= last_s for start_s, end_s in found)
    assert all(round(end_s - start_s, 3) == length_ms / 1000 for start_s, end_s in found[:-1])
    assert [round(start_s - first_s, 3) for start_s, _ in found] == [k * hop_ms / 1000 for k in range(len(found))]
    if hop_ms <= length_ms:
        assert found[-1][1] == last_s
        assert all(after[0] <= before[1] for before, after in pairwise(found))
